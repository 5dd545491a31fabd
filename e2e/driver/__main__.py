"""Runs scenarios: `python3 -m driver --programs DIR [SCENARIO…]`, as root, from e2e/."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import nodes
from driver import sandbox
from driver.root import install_stage
from driver.scenario import Scenario, all_in

E2E = Path(__file__).resolve().parents[1]
CHECKOUT = E2E.parent
LIMIT = 300.0
RUNS_KEPT = 5
TOOLS = ("ip", "nsenter", "setpriv", "systemd-nspawn", "systemd-sysusers", "unshare")


@dataclass
class Outcome:
    """What became of a scenario."""

    name: str
    passed: bool
    seconds: float
    failure: str | None
    subtests: list[dict[str, object]] = field(default_factory=list)


class Runner:
    """Runs scenarios and knows which are running."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._running: list[sandbox.Sandbox] = []
        self._lock = Lock()

    def stop(self, number: int, _frame: object) -> None:
        """Ends all at once, at a signal."""
        for running in self._running:
            running.end()
        os._exit(128 + number)

    def play(self, scenario: Scenario) -> Outcome:
        """Runs a scenario to its end."""
        directory = self.run / scenario.name
        directory.mkdir()
        begin = time.monotonic()
        started = sandbox.Sandbox.start(scenario.path, directory, CHECKOUT)
        self._running.append(started)
        passed = started.wait(LIMIT)
        self._running.remove(started)
        # Where the machines were, which are gone.
        (directory / "machines").rmdir()
        seconds = time.monotonic() - begin
        result = directory / "result.json"
        if result.exists():
            told = json.loads(result.read_text())
            outcome = Outcome(scenario.name, passed, seconds, told["failure"], told["subtests"])
        else:
            why = f"ended after {seconds:.0f} s without a result: see driver.log"
            outcome = Outcome(scenario.name, False, seconds, why)
        with self._lock:
            report(outcome)
        return outcome


def report(outcome: Outcome) -> None:
    """Prints the lines of a scenario."""
    verdict = "passed" if outcome.passed else "FAILED"
    print(f"{outcome.name:<18} {verdict:<8} {outcome.seconds:6.1f} s", flush=True)
    for subtest in outcome.subtests:
        mark = "ok" if subtest["passed"] else "FAILED"
        print(f"  {mark:<7}{subtest['seconds']:>6} s  {subtest['name']}", flush=True)
    if outcome.failure:
        print(f"  {outcome.failure}", flush=True)


def chosen(names: list[str]) -> list[Scenario]:
    """The scenarios with these names, or all."""
    scenarios = all_in(E2E / "scenarios")
    unknown = set(names) - {scenario.name for scenario in scenarios}
    if unknown:
        known = " ".join(scenario.name for scenario in scenarios)
        sys.exit(f"e2e: there is no scenario {' '.join(sorted(unknown))}; there are: {known}")
    return [scenario for scenario in scenarios if not names or scenario.name in names]


def python_environment() -> Path | None:
    """The Python packages of a machine with Celery; says why if they can't be had."""
    done = subprocess.run(
        [CHECKOUT / "interop/environment"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        # The one that is in the machines as well.
        env=os.environ | {"PYTHON": nodes.PYTHON},
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def check_host() -> None:
    """Says what is missing, if something is."""
    if os.geteuid() != 0:
        sys.exit("e2e: machines need root: sudo make e2e")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        sys.exit(f"e2e: {' '.join(missing)} not found: e2e/setup installs it")


def new_run(base: Path) -> Path:
    """A directory for this run's logs; those of runs long past are removed."""
    run = base / time.strftime(f"%Y%m%d-%H%M%S-{os.getpid()}")
    run.mkdir(parents=True)
    latest = base / f"latest-{os.getpid()}"
    latest.symlink_to(run.name)
    latest.rename(base / "latest")
    past = sorted(path for path in base.iterdir() if path.is_dir() and not path.is_symlink())
    for old in past[:-RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return run


def main() -> int:
    """Runs what was asked for; 0 if all of it passed."""
    parser = argparse.ArgumentParser(
        prog="driver", description="Runs scenarios on machines of systemd-nspawn."
    )
    parser.add_argument("--programs", type=Path, required=True, help="directory of the built programs")
    parser.add_argument("--logs", type=Path, default=CHECKOUT / "target/e2e", help="where logs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at once")
    parser.add_argument("scenario", nargs="*", help="scenarios; without any, all")
    arguments = parser.parse_args()
    scenarios = chosen(arguments.scenario)
    check_host()
    python = None
    if any("python" in scenario.machines for scenario in scenarios):
        python = python_environment()
    if python is None:
        for scenario in [scenario for scenario in scenarios if "python" in scenario.machines]:
            print(f"skipped: {scenario.name}, which takes Celery from PyPI", flush=True)
            scenarios.remove(scenario)
    sandbox.sweep()
    run = new_run(arguments.logs.resolve())
    runner = Runner(run)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, runner.stop)
    install_stage(CHECKOUT, arguments.programs.resolve(), run / "stage")
    nodes.furnish_stage(run / "stage", python)
    print(f"logs: {run}", flush=True)
    begin = time.monotonic()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(runner.play, scenarios))
    shutil.rmtree(run / "stage")
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed", flush=True)
    print(f"in {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
