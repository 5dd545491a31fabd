"""Workers of both kinds are killed at random, for a minute: nothing is lost."""

import hashlib
import os
import random
import re
import threading
import time
from collections import Counter

import redis
from PIL import Image
from runner.cases import case
from runner.children import Child
from runner.place import EXAMPLE, Place
from runner.system import System
from runner.wait import equal, until

TASKS = 6000
SECONDS = 60.0
LEASE = 3
FINISHED = re.compile(r"celery-task-meta-(\S+) imgsys:dead \S+ queued (?:finished|failed) ")


@case
def kills(place: Place) -> str:
    """6 000 images, 3 workers of ours and 1 Python one, kill -9 of any for a minute: 0 lost."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    print(f"storm: SEED={seed} repeats the kills", flush=True)
    folder = place.directory / "pictures"
    folder.mkdir()
    for number in range(TASKS):
        Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(folder / f"{number}.png")
    # A message that a killed Python worker has lost is sent again as overdue; so no other may wait in
    # Redis for as long as that.
    system = place.system(
        server_overdue="20s", server_sweep_interval="1s", server_dispatch_window="256"
    )
    finished = watch(system)
    workers = [start(place, system, number) for number in range(4)]
    client = place.children.start(
        "client",
        [str(place.programs / "imgsys"), "send", "--json", "-j", "64", str(folder)],
        {"IMGSYS_SERVER": system.address},
    )
    killed = Counter[str]()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.3, 1.4))
        victim = chance.randrange(len(workers))
        workers[victim].kill()
        killed["Python" if victim == 3 else "ours"] += 1
        workers[victim] = start(place, system, victim)
    until("the client has all answers", lambda: not client.runs, seconds=300)
    lines = [line for line in client.log.read_text().splitlines() if line.startswith("{")]
    equal("answers", len(lines), TASKS)
    failed = [line for line in lines if '"state":"done"' not in line]
    # To be killed three times with a task, the last time with nothing beside it, is to be guilty.
    innocent = [line for line in failed if '"reason":"dead_letter"' not in line]
    equal("answers that say neither what is in the image nor that it kills", innocent, [])

    def rows() -> list[dict[str, object]]:
        found = system.imgsys("history", "--all")[1]
        return found if all(row["state"] != "queued" for row in found) else []

    history = until("the history has all", rows, seconds=60)
    equal("rows", len(history), TASKS)
    equal("jobs", len({row["job"] for row in history}), TASKS)
    until("nothing is open", lambda: not system.client.keys("imgsys:open:*"), seconds=60)
    until("nothing is held", lambda: system.client.hlen("unacked") == 0, seconds=60)
    again = system.metric("imgsys_requeued_total")
    twice = sum(count > 1 for count in finished.values())
    kills = f"{killed['ours']} + {killed['Python']} kills"
    condemned = f", {len(failed)} condemned" if failed else ""
    lost = f", {again:.0f} sent again" if again else ""
    return f"{TASKS} images, {kills}, seed {seed}: 0 lost, {twice} finished twice{lost}{condemned}"


def start(place: Place, system: System, number: int) -> Child:
    """Starts a worker: ours, or as the fourth a Python one."""
    if number < 3:
        started = place.worker(
            system, lease=f"{LEASE}s", delay="40ms", threads="1", prefetch="8"
        )
        return started.child
    env = {"IMGSYS_LEASE": str(LEASE), "IMGSYS_DELAY": "0.03"}
    return place.python_worker(system, env=env)


def watch(system: System) -> Counter[str]:
    """Counts how often the finishing script is sent for each task."""
    script = (EXAMPLE / "finish.lua").read_text()
    sha = hashlib.sha1(script.encode()).hexdigest()
    equal("the script is known from now on", system.client.script_load(script), sha)
    finished = Counter[str]()
    ready = threading.Event()

    def listen() -> None:
        client = redis.Redis(unix_socket_path=str(system.socket), decode_responses=True)
        with client.monitor() as monitor:
            ready.set()
            for entry in monitor.listen():
                command = str(entry["command"])
                if command.startswith(f"EVALSHA {sha}"):
                    found = FINISHED.search(command)
                    if found:
                        finished[found.group(1)] += 1

    def until_gone() -> None:
        try:
            listen()
        except redis.exceptions.RedisError:
            return  # the system has ended

    threading.Thread(target=until_gone, daemon=True).start()
    ready.wait(10)
    return finished
