"""Runs cases: `python -m runner --programs DIR [CASE…]`, from interop/; see ./run."""

import argparse
import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from .cases import Case, chosen
from .place import Place
from .wait import Late


# How long a case may take.
LIMIT = 600.0
# Of prctl(2): the signal that comes when the parent dies.
PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORK = multiprocessing.get_context("fork")


@dataclass
class Outcome:
    """What became of a case."""

    case: Case
    seconds: float
    failure: str | None
    figure: str | None


def interrupted(number: int, _frame: FrameType | None) -> None:
    """Unwinds, so that everything that was started ends."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def play(case: Case, programs: Path, root: Path) -> Outcome:
    """Runs a case in a process and a folder of its own."""
    # A short name: the paths of sockets in it must not exceed 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="", dir=root))
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=inside, args=(case, programs, directory, sender))
    begin = time.monotonic()
    process.start()
    sender.close()
    try:
        # What it says, or nothing if it died.
        failure, figure = "it took too long", None
        if receiver.poll(LIMIT):
            try:
                failure, figure = receiver.recv()
            except EOFError:
                failure = "the case's process has died"
    finally:
        process.terminate()
        process.join(30)
        process.kill()
        process.join()
        shutil.rmtree(directory, ignore_errors=True)
    return Outcome(case, time.monotonic() - begin, failure, figure)


def inside(case: Case, programs: Path, directory: Path, tell: Connection) -> None:
    """Runs a case, ends what it has started, and tells how it went."""
    runner = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    place = Place(programs, directory)
    failure = figure = None
    try:
        figure = case.run(place)
    except Exception as error:  # whatever went wrong is the case's result
        failure = explained(error) + "\n" + place.children.tails()
    finally:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        place.end()
        if os.getppid() != runner:
            # Killed: nobody else cleans up.
            shutil.rmtree(directory.parent, ignore_errors=True)
    tell.send((failure, figure))
    tell.close()
    # Without the destructors of Celery's objects, which would look for the Redis that is gone.
    os._exit(0)


def explained(error: Exception) -> str:
    """What went wrong, and where in the case."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}cases{os.sep}" in frame.filename]
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    kind = "" if isinstance(error, AssertionError | Late) else f"{type(error).__name__}: "
    return f"{kind}{error}{where}"


def report(outcome: Outcome) -> None:
    """Prints the line of a case, and why it failed."""
    verdict = "FAILED" if outcome.failure else "ok"
    says = outcome.figure or outcome.case.says
    print(f"{outcome.case.name:<34} {verdict:<7} {outcome.seconds:5.1f} s  {says}", flush=True)
    if outcome.failure:
        print("  " + outcome.failure.replace("\n", "\n  "), flush=True)


def main() -> int:
    """Runs the chosen cases; 0 if all of them hold."""
    parser = argparse.ArgumentParser(prog="interop/run")
    parser.add_argument("--programs", type=Path, required=True, help="folder of imgsys' programs")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="name, module, or with asterisks")
    options = parser.parse_args()
    cases = chosen(options.cases)
    if not cases:
        parser.error("no case is called so; --list lists them")
    if options.list:
        for case in cases:
            print(f"{case.name:<34} {case.says}")
        return 0
    for number in SIGNALS:
        signal.signal(number, interrupted)
    begin = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="interop."))
    outcomes: list[Outcome] = []
    try:
        for case in cases:
            outcomes.append(play(case, options.programs, root))
            report(outcomes[-1])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    failed = sum(outcome.failure is not None for outcome in outcomes)
    seconds = time.monotonic() - begin
    print(f"{len(outcomes)} cases, {failed} failed, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
