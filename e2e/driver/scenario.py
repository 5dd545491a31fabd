"""A scenario: a script, whose first line says which machines it needs."""

from dataclasses import dataclass
from pathlib import Path

MACHINES = "# machines: "


@dataclass(frozen=True)
class Scenario:
    """A file of `scenarios/`."""

    path: Path

    @property
    def name(self) -> str:
        """What it is called in tables and file names."""
        return self.path.stem

    @property
    def machines(self) -> list[str]:
        """The names of its machines."""
        first = self.path.read_text().splitlines()[0]
        if not first.startswith(MACHINES):
            raise ValueError(f"{self.path}: the first line has to be “{MACHINES}NAME…”")
        return first.removeprefix(MACHINES).split()


def all_in(directory: Path) -> list[Scenario]:
    """All scenarios of a directory, by name."""
    return [Scenario(path) for path in sorted(directory.glob("*.py"))]
