"""A machine, with the methods of NixOS' `Machine`: the same names, the same meaning."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from driver import network
from driver.root import Root

BOOT_LIMIT = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = Path("/sys/fs/cgroup")


class RequestedAssertionFailed(AssertionError):
    """What a scenario asked for is not so. Named as in the NixOS test driver."""


class Log:
    """The scenario's log."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)
        self._begin = time.monotonic()

    def info(self, message: str) -> None:
        """Writes a line, with the seconds since the begin of the scenario."""
        self._file.write(f"[{time.monotonic() - self._begin:8.2f}] {message}\n")

    @contextmanager
    def nested(self, message: str) -> Iterator[None]:
        """Says how long something took."""
        begin = time.monotonic()
        self.info(message)
        try:
            yield
        finally:
            self.info(f"(finished: {message}, in {time.monotonic() - begin:.2f} seconds)")


def retry(check: Callable[[bool], bool], timeout: float = 900, pause: float = 1.0) -> None:
    """Calls `check` until it is true. The last call, past the time, is told that it is the last."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if check(False):
            return
        time.sleep(pause)
    if not check(True):
        raise RequestedAssertionFailed(f"action timed out after {timeout} seconds")


class Machine:
    """A machine of a scenario."""

    def __init__(self, name: str, number: int, directory: Path, root: Root, log: Log, out: Path) -> None:
        self.name = name
        self._root = root
        self._cable = network.Cable(number, directory)
        self._log = log
        self._out = out
        self._console = (out / f"{name}.log").open("ab", buffering=0)
        self._cgroup = CGROUPS / name
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._begin = 0.0

    def __repr__(self) -> str:
        return f"<machine {self.name}>"

    def log(self, message: str) -> None:
        """Writes a line into the scenario's log."""
        self._log.info(f"{self.name}: {message}")

    # Life cycle

    def start(self, allow_reboot: bool = False) -> None:
        """Turns it on, and does not wait. Any command does so, too, and waits."""
        del allow_reboot  # systemd-nspawn reboots by itself
        if self._nspawn is not None:
            return
        self.log("starting")
        self._begin = time.monotonic()
        self._cable.lay()
        self._cgroup.mkdir()
        boot = [
            *("systemd-nspawn", "--quiet", "--boot", "--machine", self.name),
            *("--directory", str(self._root.path)),
            *("--network-namespace-path", str(self._cable.namespace)),
            *("--register=no", "--keep-unit", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off", "--console=read-only"),
            *("--setenv=SYSTEMD_COLORS=0", "--setenv=TERM=dumb"),
        ]
        environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"}
        joined = ["sh", "-c", f'echo $$ >{self._cgroup}/cgroup.procs; exec "$@"', "sh", *boot]
        self._nspawn = subprocess.Popen(
            joined,
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    def connect(self) -> None:
        """Turns it on, and waits until its systemd takes commands."""
        self.start()
        if self._leader is not None:
            return
        while (leader := self._find_leader()) is None:
            if self._nspawn is None or self._nspawn.poll() is not None:
                raise RuntimeError(f"{self.name} did not boot: see its log")
            if time.monotonic() - self._begin > BOOT_LIMIT:
                raise RuntimeError(f"{self.name} did not boot within {BOOT_LIMIT:.0f} s")
            time.sleep(0.02)
        self._leader = leader
        self.log(f"up after {time.monotonic() - self._begin:.2f} seconds")

    def is_up(self) -> bool:
        """Whether it takes commands."""
        return self._leader is not None

    def crash(self) -> None:
        """Cuts the power: all processes are gone at once, and the network has heard nothing."""
        self.log("forced crash")
        if self._nspawn is None:
            return
        self.connect()
        self._cable.pull_out()
        assert self._leader is not None
        os.kill(self._leader, signal.SIGKILL)
        self._is_off()

    def shutdown(self) -> None:
        """Turns it off in an orderly way, and waits."""
        if self._nspawn is None:
            return
        self.connect()
        self.log("shutting down")
        assert self._leader is not None
        os.kill(self._leader, signal.SIGRTMIN + 4)
        self._is_off()

    def wait_for_shutdown(self) -> None:
        """Waits until it is off, for whatever reason."""
        if self._nspawn is not None:
            self.connect()
            self._is_off()

    def block(self) -> None:
        """Pulls the network cable; commands still reach the machine."""
        self.log("network cable out")
        self._cable.pull_out()

    def unblock(self) -> None:
        """Plugs the network cable in again."""
        self.log("network cable in")
        self._cable.plug_in()

    def _find_leader(self) -> int | None:
        """The machine's first process, as soon as it takes commands."""
        assert self._nspawn is not None
        try:
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
            for child in children.split():
                status = Path(f"/proc/{child}/status").read_text()
                within = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
                socket = Path(f"/proc/{child}/root/run/systemd/private")
                if within and within[1] == "1" and socket.exists():
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return None

    def _is_off(self) -> None:
        assert self._nspawn is not None
        self._nspawn.wait(timeout=120)
        self._nspawn = self._leader = None
        self._cable.remove()
        for group, _, _ in os.walk(self._cgroup, topdown=False):
            os.rmdir(group)
        self.log("off")

    # Shell

    def execute(
        self,
        command: str,
        check_return: bool = True,
        check_output: bool = True,
        timeout: int | None = 900,
    ) -> tuple[int, str]:
        """Runs a command and gives its exit code and output. Waits until its stdout is closed."""
        self.connect()
        limit = ["timeout", str(timeout)] if timeout is not None else []
        process = subprocess.run(
            [
                *("nsenter", "--target", str(self._leader)),
                *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"),
                *("env", "--ignore-environment", "--chdir=/", f"PATH={PATH}", "HOME=/root"),
                *("LANG=C.UTF-8", *limit, "bash", "-c", f"set -euo pipefail\n{command}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if check_output else subprocess.DEVNULL,
            stderr=self._console,
        )
        output = (process.stdout or b"").decode(errors="replace")
        return (process.returncode if check_return else -1), output

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that have to succeed, and gives their output."""
        output = ""
        for command in commands:
            with self._log.nested(f"{self.name}: must succeed: {command}"):
                status, said = self.execute(command, timeout=timeout)
            if status != 0:
                self.log(f"output: {said}")
                raise RequestedAssertionFailed(f"command `{command}` failed (exit code {status})")
            output += said
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that have to fail, and gives their output."""
        output = ""
        for command in commands:
            with self._log.nested(f"{self.name}: must fail: {command}"):
                status, said = self.execute(command, timeout=timeout)
            if status == 0:
                raise RequestedAssertionFailed(f"command `{command}` unexpectedly succeeded")
            output += said
        return output

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it succeeds, and gives its output."""
        return self._repeat(command, timeout, lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it fails, and gives its output."""
        return self._repeat(command, timeout, lambda status: status != 0)

    def _repeat(self, command: str, timeout: int, enough: Callable[[int], bool]) -> str:
        output = ""

        def check(last: bool) -> bool:
            nonlocal output
            status, output = self.execute(command, timeout=timeout)
            if last and not enough(status):
                raise RequestedAssertionFailed(
                    f"command `{command}` gave exit code {status} for {timeout} seconds: {output}"
                )
            return enough(status)

        with self._log.nested(f"{self.name}: waiting for: {command}"):
            retry(check, timeout, pause=0.2)
        return output

    def sleep(self, secs: int) -> None:
        """Lets time pass on the machine."""
        self.succeed(f"sleep {secs}")

    def wait_for_file(self, filename: str, timeout: int = 900) -> None:
        """Waits until a file exists."""
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until something listens on a TCP port."""
        self.wait_until_succeeds(f"exec 3<>/dev/tcp/{addr}/{port}", timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until nothing listens on a TCP port."""
        self.wait_until_fails(f"exec 3<>/dev/tcp/{addr}/{port}", timeout)

    # systemd

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Runs systemctl."""
        if user is not None:
            raise NotImplementedError("machines have no user sessions here")
        return self.execute(f"systemctl {q}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        status, lines = self.systemctl(f"--no-pager show {shlex.quote(unit)}", user)
        if status != 0:
            raise RequestedAssertionFailed(f"no properties of {unit}: exit code {status}")
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """A property of a unit."""
        status, value = self.systemctl(f"--no-pager show -P {property} {shlex.quote(unit)}", user)
        if status != 0:
            raise RequestedAssertionFailed(f"no {property} of {unit}: exit code {status}")
        return value.strip()

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Fails unless a unit is in this state."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise RequestedAssertionFailed(f"{unit} is {state}, not {require_state}")

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None:
        """Waits until a unit is active. Raises once it has failed, and once it is inactive with
        no job that could change that."""

        def check(_last: bool) -> bool:
            state = self.get_unit_property(unit, "ActiveState", user)
            if state == "failed":
                raise RequestedAssertionFailed(f'unit "{unit}" reached state "{state}"')
            if state == "inactive":
                _, jobs = self.systemctl("list-jobs --full 2>&1", user)
                if "No jobs" in jobs and self.get_unit_property(unit, "ActiveState", user) == state:
                    raise RequestedAssertionFailed(f'unit "{unit}" is inactive and there are no pending jobs')
            return state == "active"

        with self._log.nested(f"{self.name}: waiting for unit {unit}"):
            retry(check, timeout, pause=0.1)

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Starts a unit."""
        return self.systemctl(f"start {jobname}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Stops a unit."""
        return self.systemctl(f"stop {jobname}", user)

    # Files

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file or directory into the machine, to be root's."""
        self.connect()
        place = self._inside(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)

    def copy_from_vm(self, source: str, target_dir: str = "") -> None:
        """Copies a file or directory out of the machine, to where its log is."""
        self.connect()
        place = self._out / target_dir
        place.mkdir(parents=True, exist_ok=True)
        origin = self._inside(source)
        if origin.is_dir():
            shutil.copytree(origin, place / origin.name, dirs_exist_ok=True)
        else:
            shutil.copy(origin, place)

    copy_from_machine = copy_from_vm

    def _inside(self, path: str) -> Path:
        """A path of the running machine, what is mounted in it included."""
        return Path(f"/proc/{self._leader}/root") / path.lstrip("/")
