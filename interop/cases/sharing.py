"""Python's workers and ours on one queue: what one has left, the other does."""

import time

from runner.cases import case
from runner.place import Place
from runner.wait import equal, until

LEASE = 3


@case
def ours_takes_over(place: Place) -> str:
    """What a Python worker held when it was killed is done by one of ours."""
    redis = place.redis()
    app = place.app(redis)
    python = place.python_worker(redis, env=python_env(place, slow="30"))
    sent = [
        app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys") for _ in range(2)
    ]
    until("it holds a task", lambda: redis.held() >= 1)
    python.kill()
    begin = time.monotonic()
    place.worker(redis, lease=f"{LEASE}s")
    for result in sent:
        got = result.get(timeout=30)
        equal("analyzer", got["outcome"]["done"]["analyzer"]["name"], "simulated")
    until("nothing is held any more", lambda: redis.held() == 0)
    return f"taken over {time.monotonic() - begin:.1f} s after a kill -9, with a lease of {LEASE} s"


@case
def python_takes_over(place: Place) -> str:
    """What one of our workers held when it was killed is done by a Python worker."""
    redis = place.redis()
    app = place.app(redis)
    ours = place.worker(redis, lease=f"{LEASE}s", delay="20s", threads="1", prefetch="4")
    sent = [
        app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys") for _ in range(6)
    ]
    until("it holds all that it may", lambda: redis.held() == 4)
    ours.child.kill()
    begin = time.monotonic()
    place.python_worker(redis, env=python_env(place))
    for result in sent:
        got = result.get(timeout=30)
        equal("analyzer", got["outcome"]["done"]["analyzer"]["name"], "colour")
    until("nothing is held any more", lambda: redis.held() == 0)
    return f"taken over {time.monotonic() - begin:.1f} s after a kill -9, with a lease of {LEASE} s"


@case
def long_tasks_stay(place: Place) -> None:
    """A task that runs longer than the lease stays its worker's: the example renews its leases."""
    redis = place.redis()
    app = place.app(redis)
    place.python_worker(redis, env=python_env(place, slow="8"))
    sent = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    until("it holds a task", lambda: redis.held() == 1)
    place.worker(redis, lease=f"{LEASE}s")
    got = sent.get(timeout=30)
    equal("analyzer", got["outcome"]["done"]["analyzer"]["name"], "colour")
    equal("takeovers", redis.client.hgetall("imgsys:takeovers"), {})


@case
def warm_shutdown(place: Place) -> None:
    """On SIGTERM ours ends what it can in time and gives back the rest, which a Python worker does."""
    redis = place.redis()
    app = place.app(redis)
    ours = place.worker(redis, lease="60s", delay="1s", threads="1", prefetch="4", drain="1500ms")
    sent = [
        app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys") for _ in range(4)
    ]
    until("it holds all of them", lambda: redis.held() == 4)
    equal("exit code", ours.child.stop(), 0)
    equal("held by nobody", redis.held(), 0)
    place.python_worker(redis, env=python_env(place, lease="60"))
    found = [r.get(timeout=20)["outcome"]["done"]["analyzer"]["name"] for r in sent]
    equal("by ours", found.count("simulated") >= 1, True)
    equal("by the Python worker", found.count("colour") >= 1, True)


def python_env(place: Place, slow: str = "0", lease: str = str(LEASE)) -> dict[str, str]:
    """Variables for the Python worker."""
    return {
        "IMGSYS_IMAGE_SOURCES": f"file://{place.images}/",
        "IMGSYS_LEASE": lease,
        "IMGSYS_DELAY": slow,
    }
