"""One scenario's own mounts, network, processes and control groups.

They are namespaces whose first process is the scenario's. When that process ends, however it ends,
the kernel ends all other processes in there and takes mounts, bridge and cables away; and it ends
with the one that started it, even if that is killed. Only empty control groups may be left behind:
they are removed afterwards, those of a killed run by the next.
"""

import itertools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# What control groups of sandboxes are called: the process that they belong to follows.
MARK = "imgsys-e2e-"
NUMBERS = itertools.count(1)


def control_groups() -> Path:
    """Where the host has mounted the control groups of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise RuntimeError("no control groups of version 2 are mounted on this host")


def sweep() -> None:
    """Removes the control groups of runs that are no more."""
    for group in control_groups().glob(f"{MARK}*"):
        owner = group.name.removeprefix(MARK).split("-")[0]
        if not Path(f"/proc/{owner}").exists():
            remove(group)


def remove(group: Path) -> bool:
    """Removes a control group and those in it; whether it could, for processes may be left in it."""
    try:
        for directory, _, _ in os.walk(group, topdown=False):
            os.rmdir(directory)
    except OSError:
        return False
    return True


@dataclass
class Sandbox:
    """A running scenario."""

    process: subprocess.Popen[bytes]
    group: Path

    @classmethod
    def start(cls, scenario: Path, directory: Path, checkout: Path) -> "Sandbox":
        """Starts a scenario that keeps its files in `directory`."""
        group = control_groups() / f"{MARK}{os.getpid()}-{next(NUMBERS)}-{scenario.stem}"
        group.mkdir()
        namespaces = ("mount", "net", "pid", "ipc", "uts", "cgroup")
        command = [
            *("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"),
            *("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--fork", "--kill-child"),
            *("--mount-proc", *(f"--{namespace}" for namespace in namespaces)),
            *(sys.executable, "-m", "driver.inside"),
            *(str(scenario), str(directory), str(checkout)),
        ]
        with (directory / "driver.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).resolve().parents[1],
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )
        return cls(process, group)

    def wait(self, limit: float) -> bool:
        """Waits for its end, which is brought about after `limit` seconds; whether it passed."""
        try:
            return self.process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.end()

    def end(self) -> None:
        """Ends it, if it still runs."""
        self.process.kill()
        self.process.wait()
        # The kernel takes a moment to end what was in it.
        patience = time.monotonic() + 10
        while not remove(self.group) and time.monotonic() < patience:
            time.sleep(0.02)
