"""Tests of the driver: `python3 -m unittest driver.tests`, as root, from e2e/."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from driver import sandbox

E2E = Path(__file__).resolve().parents[1]
CHECKOUT = E2E.parent


class Run:
    """A scenario that exists only here, on machines without imgsys."""

    def __init__(self, directory: Path, script: str, machines: str = "client") -> None:
        self.directory = directory / "run"
        self.scenario = directory / "scenario.py"
        self.scenario.write_text(f"# machines: {machines}\n{script}")
        self.directory.mkdir()
        (directory / "stage").mkdir()

    def start(self) -> sandbox.Sandbox:
        return sandbox.Sandbox.start(self.scenario, self.directory, CHECKOUT)

    def result(self) -> dict[str, object]:
        self.start().wait(120)
        result: dict[str, object] = json.loads((self.directory / "result.json").read_text())
        return result


def wait_for(what: str, condition: object, limit: float = 30.0) -> None:
    """Waits until a condition holds."""
    assert callable(condition)
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {limit:.0f} s: {what}")
        time.sleep(0.05)


def members(mark: str) -> list[str]:
    """The processes of sandboxes with this mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "cgroup").read_text():
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cables() -> set[str]:
    """The network interfaces of the host."""
    return set(os.listdir("/sys/class/net"))


class TemporaryTest(unittest.TestCase):
    """A test with a directory of its own."""

    def setUp(self) -> None:
        # Where no machine hides it.
        base = CHECKOUT / "target/e2e/tests"
        base.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=base)
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)


class DriverTest(TemporaryTest):
    """What scenarios may rely on."""

    def passes(self, script: str, machines: str = "client") -> None:
        result = Run(self.directory, script, machines).result()
        self.assertIsNone(result["failure"])

    def fails(self, script: str, why: str) -> None:
        result = Run(self.directory, script).result()
        self.assertIn(why, str(result["failure"]))

    def test_commands(self) -> None:
        self.passes(
            "t.assertEqual(client.succeed('echo out; echo err >&2'), 'out\\n')\n"
            "t.assertEqual(client.execute('exit 3'), (3, ''))\n"
            "t.assertEqual(client.execute('false | true')[0], 1)\n"
            "t.assertEqual(client.execute('true', check_return=False)[0], -1)\n"
            "t.assertEqual(client.execute('sleep 9', timeout=1)[0], 124)\n"
            "client.fail('false')\n"
            "client.succeed('echo here >/tmp/file')\n"
            "client.wait_for_file('/tmp/file')\n"
            "client.copy_from_vm('/tmp/file')\n"
        )
        self.assertEqual((self.directory / "run/file").read_text(), "here\n")

    def test_a_failed_command_ends_the_scenario_and_names_its_line(self) -> None:
        self.fails("pass\nclient.succeed('exit 7')\n", "command `exit 7` failed (exit code 7) (line 3)")

    def test_a_failed_subtest_is_told(self) -> None:
        result = Run(
            self.directory, "with subtest('a'):\n    pass\nwith subtest('b'):\n    client.succeed('false')\n"
        )
        subtests = result.result()["subtests"]
        assert isinstance(subtests, list)
        self.assertEqual([(it["name"], it["passed"]) for it in subtests], [("a", True), ("b", False)])

    def test_waiting_for_a_unit_that_fails_raises(self) -> None:
        self.fails(
            # A oneshot, which is never active: another type is so until its process has ended.
            "client.execute('systemd-run --unit=bad --property=Type=oneshot false')\n"
            "client.wait_for_unit('bad.service')\n",
            'unit "bad.service" reached state "failed"',
        )

    def test_waiting_for_a_unit_that_nobody_starts_raises(self) -> None:
        self.fails(
            "client.wait_for_unit('multi-user.target')\nclient.wait_for_unit('absent.service')\n",
            'unit "absent.service" is inactive and there are no pending jobs',
        )

    def test_the_host_is_hidden_and_safe(self) -> None:
        self.passes(
            f"client.fail('test -e {CHECKOUT}/Makefile')\n"
            "t.assertEqual(client.succeed('ls /root /home /var/lib/postgresql'), "
            "'/home:\\n\\n/root:\\n\\n/var/lib/postgresql:\\n')\n"
            "client.succeed('echo changed >/etc/debian_version; rm /usr/bin/env')\n"
        )
        self.assertNotIn("changed", Path("/etc/debian_version").read_text())
        self.assertTrue(Path("/usr/bin/env").exists())

    def test_machines_reach_each_other_unless_blocked(self) -> None:
        reach = "timeout 2 bash -c 'exec 3<>/dev/tcp/redis/6379'"
        self.passes(
            "start_all()\n"
            "redis.wait_for_open_port(6379)\n"
            f'client.succeed("{reach}")\n'
            "redis.block()\n"
            f'client.fail("{reach}")\n'
            "redis.unblock()\n"
            f'client.wait_until_succeeds("{reach}", timeout=30)\n'
            "redis.crash()\n"
            f'client.fail("{reach}")\n'
            "redis.start()\n"
            f'client.wait_until_succeeds("{reach}", timeout=30)\n',
            "client redis",
        )

    def test_a_crash_keeps_the_disk_and_nothing_else(self) -> None:
        self.passes(
            "client.succeed('echo kept >/root/file; echo gone >/tmp/file; sleep 600 >/dev/null &')\n"
            "client.crash()\n"
            "client.start()\n"
            "t.assertEqual(client.succeed('cat /root/file'), 'kept\\n')\n"
            "client.fail('test -e /tmp/file')\n"
            "client.fail('grep -l sleep /proc/[0-9]*/comm')\n"
            "client.shutdown()\n"
            "t.assertFalse(client.is_up())\n"
            "client.start()\n"
            "t.assertEqual(client.succeed('cat /root/file'), 'kept\\n')\n"
        )


class CleanupTest(TemporaryTest):
    """Whatever ends a run, nothing of it is left."""

    SLOW = "client.wait_for_unit('multi-user.target')\nopen(OUT, 'w').close()\nclient.sleep(600)\n"

    def test_killed(self) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), tempfile.TemporaryDirectory(dir=self.directory) as directory:
                self.leaves_nothing(number, Path(directory))

    def leaves_nothing(self, number: signal.Signals, directory: Path) -> None:
        before = cables()
        run = Run(directory, f"OUT = '{directory}/run/ready'\n{self.SLOW}")
        code = (
            # Who starts the tests in the background may have them ignore it.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "import pathlib, sys; from driver.sandbox import Sandbox;"
            "Sandbox.start(*map(pathlib.Path, sys.argv[1:])).wait(600)"
        )
        command = [sys.executable, "-c", code, str(run.scenario), str(run.directory), str(CHECKOUT)]
        runner = subprocess.Popen(command, cwd=E2E, stderr=subprocess.DEVNULL)
        mark = f"{sandbox.MARK}{runner.pid}-"
        wait_for("the machine is up", (run.directory / "ready").exists)
        self.assertGreater(len(members(mark)), 3)
        runner.send_signal(number)
        runner.wait()
        wait_for("its processes have ended", lambda: not members(mark))
        self.assertEqual(cables(), before)
        self.assertNotIn(str(directory), Path("/proc/self/mounts").read_text())
        sandbox.sweep()
        self.assertEqual(list(sandbox.control_groups().glob(f"{mark}*")), [])

    def test_two_at_once(self) -> None:
        runs = []
        for name in ("one", "two"):
            directory = self.directory / name
            directory.mkdir()
            runs.append(
                Run(
                    directory,
                    "client.wait_for_unit('multi-user.target')\nclient.crash()\nclient.start()\nclient.succeed('true')\n",
                )
            )
        started = [run.start() for run in runs]
        self.assertEqual([it.wait(120) for it in started], [True, True])


if __name__ == "__main__":
    unittest.main()
