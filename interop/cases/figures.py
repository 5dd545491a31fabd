"""What it costs to be there."""

import time

from runner.cases import case
from runner.place import Place
from runner.redis import Redis
from runner.wait import equal, until

SECONDS = 10.0


@case
def idle_traffic(place: Place) -> str:
    """A worker that has nothing to do hardly talks to Redis, events and remote control included."""
    redis = place.redis()
    app = place.app(redis)
    name = place.worker(redis).name
    until("it answers", lambda: app.control.ping(destination=[name], timeout=0.5))
    app.pool.force_close_all()
    before = commands(redis)
    time.sleep(SECONDS)  # what is measured
    # The question itself is one of them.
    rate = (commands(redis) - before - 1) / SECONDS
    equal(f"few commands a second: {rate:.1f}", rate < 5, True)
    return f"{rate:.1f} commands a second of a worker that has nothing to do"


def commands(redis: Redis) -> int:
    """How many commands Redis has had."""
    return int(redis.client.info("stats")["total_commands_processed"])
