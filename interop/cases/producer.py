"""A Python program sends tasks, our worker does them."""

import time
from datetime import datetime, timedelta, timezone

from celery.exceptions import TaskRevokedError
from runner.cases import case
from runner.place import Place
from runner.wait import equal, until


@case
def plain(place: Place) -> None:
    """AsyncResult.get() gives the analysis, sent with names, without, and in a mixture."""
    redis = place.redis()
    place.worker(redis)
    app = place.app(redis)
    kwargs = place.image()
    first = app.send_task("imgsys.analyze", kwargs=kwargs, queue="imgsys")
    got = first.get(timeout=20)
    analysis = got["outcome"]["done"]
    equal("analyzer", analysis["analyzer"]["name"], "simulated")
    equal("size", [analysis["properties"][side] for side in ("width", "height")], [20, 50])
    equal("attempts", got["attempts"], 1)
    names = ("job", "sha256", "size", "image_url")
    args = [kwargs[name] for name in names]
    second = app.send_task("imgsys.analyze", args=args, queue="imgsys")
    equal("label", second.get(timeout=20)["outcome"]["done"]["label"], analysis["label"])
    third = app.send_task(
        "imgsys.analyze", args=args[:2], kwargs={n: kwargs[n] for n in names[2:]}, queue="imgsys"
    )
    equal("label", third.get(timeout=20)["outcome"]["done"]["label"], analysis["label"])
    until("nothing is held any more", lambda: redis.held() == 0)
    equal("on the queue", redis.waiting(), [])


@case
def results_expire(place: Place) -> None:
    """A result is kept for ten minutes (result_expires), and not at all with ignore_result."""
    redis = place.redis()
    place.worker(redis)
    app = place.app(redis)
    kept = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    kept.get(timeout=20)
    seconds = redis.client.ttl(f"celery-task-meta-{kept.id}")
    if not 590 <= seconds <= 600:
        raise AssertionError(f"the result is kept for {seconds} s")
    ignored = app.send_task(
        "imgsys.analyze", kwargs=place.image(), queue="imgsys", ignore_result=True
    )
    after = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    after.get(timeout=20)
    until("all is done", lambda: redis.held() == 0 and not redis.waiting())
    equal("a result that nobody wants", redis.client.exists(f"celery-task-meta-{ignored.id}"), 0)


@case
def countdown_and_eta(place: Place) -> None:
    """countdown and eta are waited for, and nothing else is kept waiting by them."""
    redis = place.redis()
    place.worker(redis, prefetch="1", threads="1")
    app = place.app(redis)
    begin = time.monotonic()
    counted = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", countdown=2)
    eta = datetime.now(timezone.utc) + timedelta(seconds=2)
    dated = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", eta=eta)
    plain = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    plain.get(timeout=20)
    if time.monotonic() - begin > 1.8:
        raise AssertionError("a task waited for others whose time had not come")
    for result in (counted, dated):
        result.get(timeout=20)
        took = time.monotonic() - begin
        if not 1.9 <= took <= 5:
            raise AssertionError(f"done after {took:.1f} s, not 2 s")


@case
def expires(place: Place) -> None:
    """A task that expires before a worker takes it ends as revoked, as with Python's workers."""
    redis = place.redis()
    app = place.app(redis)
    sent = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", expires=0.1)
    in_time = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", expires=600)
    time.sleep(0.2)  # until it has expired
    place.worker(redis)
    try:
        sent.get(timeout=20)
    except TaskRevokedError as error:
        if "expired" not in str(error):
            raise AssertionError(f"revoked, but not as expired: {error}") from error
    else:
        raise AssertionError("an expired task was done")
    in_time.get(timeout=20)


@case
def priority(place: Place) -> None:
    """Tasks are taken by their priority, 0 first."""
    redis = place.redis()
    app = place.app(redis)
    sent = {
        level: app.send_task(
            "imgsys.analyze", kwargs=place.image(), queue="imgsys", priority=level
        )
        for level in (9, 6, 3, 0)
    }
    place.worker(redis, prefetch="1", threads="1", delay="50ms")
    ends = {level: result.get(timeout=20)["finished_at"] for level, result in sent.items()}
    equal("in the order of", sorted(ends, key=ends.__getitem__), [0, 3, 6, 9])


@case
def time_limits(place: Place) -> None:
    """time_limit and soft_time_limit hold, whole or with a fraction."""
    redis = place.redis()
    place.worker(redis, delay="5s", threads="4")
    app = place.app(redis)
    limits = ({"time_limit": 0.5}, {"soft_time_limit": 0.25, "time_limit": 7.5}, {"time_limit": 1})
    sent = [
        app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", **limit)
        for limit in limits
    ]
    for result in sent:
        error = result.get(timeout=4, propagate=False)
        equal("state", result.state, "FAILURE")
        if "timeout" not in str(error):
            raise AssertionError(f"not over its time: {error}")
