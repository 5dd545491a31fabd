"""A scenario within its sandbox: makes the machines and runs the script.

`python3 -m driver.inside SCENARIO DIRECTORY CHECKOUT` is the first process of the sandbox. When it
ends, so does everything else in there.
"""

import json
import os
import signal
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import nodes
from driver import network
from driver.machine import CGROUPS, Log, Machine, RequestedAssertionFailed, retry
from driver.network import run
from driver.root import Root
from driver.scenario import Scenario

# What all scripts have in common.
SHARED = Path(__file__).resolve().parents[1] / "shared.py"


class Driver:
    """What the script sees, and what became of it."""

    def __init__(self, scenario: Scenario, directory: Path, checkout: Path) -> None:
        self.log = Log(directory / "driver.log")
        self.subtests: list[dict[str, object]] = []
        self._directory = directory
        self.machines = self._make_machines(scenario, checkout)

    def _make_machines(self, scenario: Scenario, checkout: Path) -> list[Machine]:
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "cgroup2", "none", str(CGROUPS))
        base = self._directory / "machines"
        base.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "machines", str(base))
        stage = base / "stage"
        run("cp", "-a", str(self._directory.parent / "stage"), str(stage))
        network.create_bridge()
        numbers = {name: number for number, name in enumerate(sorted(scenario.machines), 1)}
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{network.address(number)} {name}\n" for name, number in numbers.items()
        )
        machines = []
        for name, number in numbers.items():
            node = nodes.describe(name)
            root = Root(base / name, stage)
            root.mount([str(checkout)])
            root.furnish(name, hosts, node.files, node.units)
            machines.append(Machine(name, number, base / name, root, self.log, self._directory))
        return machines

    @contextmanager
    def subtest(self, name: str) -> Iterator[None]:
        """A named part of a scenario."""
        begin = time.monotonic()
        record: dict[str, object] = {"name": name, "passed": False}
        self.subtests.append(record)
        with self.log.nested(f"subtest: {name}"):
            try:
                yield
            except Exception as error:
                self.log.info(f"subtest “{name}” failed: {error}")
                raise
            finally:
                record["seconds"] = round(time.monotonic() - begin, 1)
        record["passed"] = True

    def start_all(self) -> None:
        """Turns all machines on."""
        for machine in self.machines:
            machine.start()

    def join_all(self) -> None:
        """Waits until all machines are off."""
        for machine in self.machines:
            machine.wait_for_shutdown()

    def symbols(self) -> dict[str, object]:
        """The names that a script sees, beside its machines."""
        return {machine.name: machine for machine in self.machines} | {
            "Machine": Machine,
            "driver": self,
            "join_all": self.join_all,
            "log": self.log,
            "machines": self.machines,
            "os": os,
            "retry": retry,
            "start_all": self.start_all,
            "subtest": self.subtest,
            "t": unittest.TestCase(),
        }


def blame(error: BaseException, script: str) -> str:
    """What went wrong, and in which line of the script."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script]
    place = f" (line {lines[-1]})" if lines else ""
    return f"{error}{place}" if isinstance(error, RequestedAssertionFailed) else f"{error!r}{place}"


def end(number: int, _frame: FrameType | None) -> None:
    """The first process of a sandbox ends by a signal only if it says so."""
    sys.exit(128 + number)


def main() -> int:
    """Runs a scenario and writes `result.json`."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    scenario = Scenario(Path(sys.argv[1]))
    directory, checkout = Path(sys.argv[2]), Path(sys.argv[3])
    failure = None
    driver = None
    try:
        driver = Driver(scenario, directory, checkout)
        symbols = driver.symbols()
        for script in (SHARED, scenario.path):
            exec(compile(script.read_text(), str(script), "exec"), symbols)
    except Exception as error:
        failure = blame(error, str(scenario.path))
        with (directory / "driver.log").open("a") as log:
            traceback.print_exc(file=log)
    result = {"subtests": driver.subtests if driver else [], "failure": failure}
    (directory / "result.json").write_text(json.dumps(result))
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
