"""Waiting for what must come."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Late(AssertionError):
    """What had to come did not, within its time."""


def until(what: str, look: Callable[[], T], seconds: float = 20.0) -> T:
    """Looks again and again until there is something, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Late(f"in vain for {seconds:.0f} s: {what} (last seen: {found!r})")
        time.sleep(0.02)


def equal(what: str, found: object, expected: object) -> None:
    """Fails, with both values, unless they are equal."""
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")
