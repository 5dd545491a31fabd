"""Callbacks, error callbacks and chains go on from our worker as from a Python one."""

import json
import re
from collections.abc import Callable

from celery import Celery, chain, group
from celery.canvas import Signature
from runner.cases import case
from runner.place import Place, opened
from runner.redis import Redis
from runner.wait import equal, until

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+\+00:00")
# What says who sent a message, or is written for people.
OWN = ("lang", "origin", "reply_to", "delivery_tag", "argsrepr")


def task(app: Celery, name: str, *args: object, **options: object) -> Signature:
    """A signature of a task that nobody runs here."""
    immutable = bool(options.pop("immutable", False))
    return app.signature(name, args=args, options=options, immutable=immutable)


@case
def equal_to_pythons(place: Place) -> str:
    """What our worker sends on equals what Python's does, message by message, ids aside."""
    redis = place.redis()
    app = place.app(redis)
    place.worker(redis)
    place.peer(redis, "stand_in", "-Q", "python")
    good, bad = place.image(), place.store(b"no image", "text")
    answers: dict[str, object] = {}

    def canvas(name: str, *args: object, **options: object) -> Signature:
        return task(app, name, *args, **options)

    a, c = canvas("t.a", 1), canvas("t.c", immutable=True)
    a_late = canvas("t.a", queue="late", priority=4, countdown=60, expires=90.5, time_limit=7.5)
    linked = canvas("t.a", link=canvas("t.x"), link_error=[canvas("t.y"), canvas("t.z")])
    stamped = canvas("t.a", stamped_headers=["site"], site="north")
    cases: dict[str, dict[str, object]] = {
        "a link": {"link": a},
        "an immutable link": {"link": c},
        "a link with options": {"link": a_late},
        "a link with links": {"link": linked},
        "a stamped link": {"link": stamped},
        "links": {"link": [a, canvas("t.b"), c]},
        "a group": {"link": group(a, canvas("t.b", queue="q"))},
        "a chain as a link": {"link": chain(a, canvas("t.b"), c)},
        "links of all kinds": {"link": [a, group(a, c), chain(a, canvas("t.b"))]},
        "errors unused": {"link": a, "link_error": canvas("t.e")},
        "an error": {"link_error": canvas("t.e", 5, queue="errors"), "link": a, "fails": True},
        "errors": {"link_error": [canvas("t.e"), c], "fails": True},
    }  # fmt: skip
    for number, (what, options) in enumerate(cases.items()):
        fails = bool(options.pop("fails", False))
        kwargs = bad if fails else good
        id = f"00000000-0000-4000-8000-{number:012}"
        ours = followed(redis, app, lambda: send(app, id, "imgsys", kwargs, options), id)
        if not answers:
            answers["good"] = ours["result"]
        told = {"fails": "no"} if fails else {"answer": ours["result"]}
        python = followed(redis, app, lambda: send(app, id, "python", told, options), id)
        del ours["result"], python["result"]
        same(what, ours, python)
    steps: dict[str, Callable[[Signature], Signature]] = {
        "chain": lambda first: chain(first, canvas("t.a", 1), canvas("t.b"), c),
        "chain to a group": lambda first: chain(first, group(canvas("t.a"), canvas("t.b"))),
        "chain of two": lambda first: chain(first, a_late),
        "chain with links": lambda first: chain(first, linked),
    }
    for number, (what, make) in enumerate(steps.items()):
        for fails in (False, True):
            kwargs = bad if fails else good
            id = f"00000000-0000-4000-9000-{number:011}{int(fails)}"
            first = app.signature("imgsys.analyze", kwargs=kwargs, options={"queue": "imgsys"})
            ours = followed(redis, app, lambda: make(first.set(task_id=id)).apply_async(), id)
            told = {"fails": "no"} if fails else {"answer": ours["result"]}
            first = app.signature("imgsys.analyze", kwargs=told, options={"queue": "python"})
            python = followed(redis, app, lambda: make(first.set(task_id=id)).apply_async(), id)
            del ours["result"], python["result"]
            same(f"{what}{', failed' if fails else ''}", ours, python)
    return f"{len(cases) + 2 * len(steps)} ways to go on are equal to Python's, ids aside"


def send(
    app: Celery, id: str, queue: str, kwargs: dict[str, object], options: dict[str, object]
) -> None:
    """Sends the task with its callbacks."""
    app.send_task("imgsys.analyze", kwargs=kwargs, queue=queue, task_id=id, **options)


def followed(redis: Redis, app: Celery, send: Callable[[], object], id: str) -> dict[str, object]:
    """What lies in Redis once the task has ended: messages, children, results of others."""
    send()
    until("it has ended", lambda: redis.client.exists(f"celery-task-meta-{id}"))
    until("nothing is held any more", lambda: redis.held() == 0)
    messages: dict[str, list[object]] = {}
    for key in redis.client.keys("*"):
        if redis.client.type(key) == "list":
            messages[key] = [opened(text) for text in reversed(redis.client.lrange(key, 0, -1))]
            redis.client.delete(key)
    metas = {}
    for key in sorted(redis.client.keys("celery-task-meta-*")):
        metas[key.removeprefix("celery-task-meta-")] = json.loads(redis.client.get(key))
        redis.client.delete(key)
    own = metas.pop(id)
    return {
        "messages": messages,
        "status": own["status"],
        "children": own["children"],
        "others": sorted(meta["status"] for meta in metas.values()),
        "result": own["result"],
    }


def same(what: str, ours: object, python: object) -> None:
    """Fails unless both are equal but for ids and times."""

    def normal(value: object) -> str:
        names: dict[str, str] = {}

        def name(found: re.Match[str]) -> str:
            return names.setdefault(found.group(), f"<{len(names)}>")

        text = json.dumps(stripped(value), sort_keys=True, indent=1)
        return TIME.sub("<time>", UUID.sub(name, text))

    left, right = normal(ours), normal(python)
    if left != right:
        rows = zip(left.splitlines(), right.splitlines(), strict=False)
        first = next((pair for pair in rows if pair[0] != pair[1]), ("", "(longer)"))
        raise AssertionError(f"{what}: {first[0].strip()!r}, Python has {first[1].strip()!r}")


def stripped(value: object) -> object:
    """Without what says who sent it."""
    if isinstance(value, dict):
        return {key: stripped(each) for key, each in value.items() if key not in OWN}
    if isinstance(value, list):
        return [stripped(each) for each in value]
    return value


@case
def python_goes_on(place: Place) -> None:
    """A Python worker takes up what our worker sends on: link, link_error and chain, to the end."""
    redis = place.redis()
    place.worker(redis)
    place.peer(redis, "collector", "-Q", "collect")
    app = place.app(redis)

    def collected(what: str) -> list[object]:
        return [json.loads(text) for text in redis.client.lrange(f"collected:{what}", 0, -1)]

    link = task(app, "collector.keep", "linked", queue="collect")
    error = task(app, "collector.keep", "error", queue="collect")
    sent = app.send_task(
        "imgsys.analyze", kwargs=place.image(), queue="imgsys", link=link, link_error=error
    )
    got = sent.get(timeout=20)
    until("the callback has run", lambda: collected("linked"))
    equal("what the callback got", collected("linked"), [got])
    failed = app.send_task(
        "imgsys.analyze", kwargs=place.store(b"-", "x"), queue="imgsys", link_error=error
    )
    until("the error callback has run", lambda: collected("error"))
    equal("what the error callback got", collected("error"), [failed.id])

    def label(fails: bool) -> Signature:
        kwargs = place.store(b"-", "x") if fails else place.image()
        first = app.signature("imgsys.analyze", kwargs=kwargs, options={"queue": "imgsys"})
        label = task(app, "collector.label", queue="collect")
        return chain(first, label, task(app, "collector.loud", queue="collect"))

    result = label(False).apply_async()
    first = result.parent.parent.get(timeout=20)
    expected = str(first["outcome"]["done"]["label"]).upper() + "!"
    equal("the chain's result", result.get(timeout=20), expected)
    result = label(True).apply_async()
    error = result.get(timeout=20, propagate=False)
    equal("state of a chain that failed", result.state, "FAILURE")
    equal("why", "unsupported_format" in str(error), True)
