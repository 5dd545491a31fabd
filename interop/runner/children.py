"""Programs that are started here, each in a process group of its own.

They end with the case that started them, and with this process however it ends: the kernel kills
a child whose parent is gone.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Child:
    """A program that runs."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        # Celery's workers fork: the parent's death must reach all of them, so it is their group
        # that is ended here, and the parent whom the kernel ends if there is nobody to do that.
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Sends a signal to the program itself."""
        if self.runs:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, for the program and whatever it has forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, and kill -9 if that does not help. Gives how it ended."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        return self.process.returncode

    def tail(self, lines: int = 8) -> str:
        """The last lines that it wrote."""
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {self.name}: {line[:200]}" for line in text[-lines:])


class Children:
    """All programs of a case."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.all: list[Child] = []

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] = {}) -> Child:
        """Starts a program; its output goes to a file of that name."""
        child = Child(name, argv, env, self.logs / f"{name}.log")
        self.all.append(child)
        return child

    def end(self) -> None:
        """Ends all, the youngest first: all are asked, then those that don't heed it are killed."""
        for child in reversed(self.all):
            child.signal(signal.SIGTERM)
            deadline = time.monotonic() + 5
            while child.runs and time.monotonic() < deadline:
                time.sleep(0.01)
            child.kill()
        self.all.clear()

    def tails(self, most: int = 6) -> str:
        """The last lines of those that were started last."""
        programs = [child for child in self.all if child.name != "redis"]
        return "\n".join(child.tail() for child in programs[-most:])
