"""The list of cases."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch

import cases

from .place import Place


@dataclass(frozen=True)
class Case:
    """Something that has to hold."""

    name: str
    says: str
    run: Callable[[Place], str | None]


ALL: list[Case] = []


def case(run: Callable[[Place], str | None]) -> Callable[[Place], str | None]:
    """Declares a case: its docstring says what holds; what it returns is a figure to be shown."""
    name = f"{run.__module__.rpartition('.')[2]}/{run.__name__.replace('_', '-')}"
    says = (run.__doc__ or "").strip().splitlines()[0].rstrip(".")
    ALL.append(Case(name, says, run))
    return run


def load() -> list[Case]:
    """All cases, in the order of their modules."""
    for module in sorted(module.name for module in pkgutil.iter_modules(cases.__path__)):
        importlib.import_module(f"cases.{module}")
    return ALL


def chosen(patterns: list[str]) -> list[Case]:
    """The cases that a pattern fits: a name, a module, or with asterisks; all without patterns."""
    found = load()
    if not patterns:
        return found

    def fits(case: Case) -> bool:
        return any(
            fnmatch(case.name, pattern) or case.name.startswith(f"{pattern}/")
            for pattern in patterns
        )

    return [case for case in found if fits(case)]
