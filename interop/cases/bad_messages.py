"""Messages that nobody can run are set aside with a reason, and the worker goes on."""

import base64
import json
import uuid

from runner.cases import case
from runner.place import Place
from runner.redis import Redis
from runner.wait import equal, until


@case
def set_aside(place: Place) -> None:
    """No JSON, protocol 1, pickle, 10 MB, unknown tasks, missing arguments: dead letters."""
    redis = place.redis()
    worker = place.worker(redis)
    app = place.app(redis)

    def push(message: object) -> None:
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        redis.client.lpush("imgsys", text)

    def good(**kwargs: object) -> dict[str, object]:
        app.send_task("imgsys.analyze", kwargs=kwargs, queue="hold", task_id=str(uuid.uuid4()))
        return json.loads(redis.client.lpop("hold"))

    expect(redis, "not_json", lambda: push("{'single': 'quotes'}"))
    expect(redis, "not_json", lambda: push(b"\x80\x04\x95\x00"))
    expect(redis, "not_protocol_2", lambda: push([1, 2, 3]))
    old = place.app(redis, task_protocol=1)
    expect(
        redis,
        "not_protocol_2",
        lambda: old.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys"),
    )
    pickle = place.app(redis, task_serializer="pickle", accept_content=["pickle"])
    expect(
        redis,
        "unknown_content_type",
        lambda: pickle.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys"),
    )
    yaml = {**good(**place.image()), "content-type": "application/x-yaml"}
    expect(redis, "unknown_content_type", lambda: push(yaml))
    packed = {**good(**place.image()), "content-encoding": "binary"}
    expect(redis, "unknown_content_encoding", lambda: push(packed))
    large = good(**place.image())
    large["body"] = base64.b64encode(b"[" * 7_500_000).decode()
    expect(redis, "too_long", lambda: push(large))
    expect(
        redis, "unknown_task", lambda: app.send_task("tasks.add", args=[1, 2], queue="imgsys")
    )
    for missing in ("job", "sha256", "size", "image_url"):
        kwargs = place.image()
        del kwargs[missing]
        expect(redis, "bad_arguments", lambda kwargs=kwargs: push(good(**kwargs)))
    many = [*place.image().values(), *range(20)]
    expect(
        redis,
        "bad_arguments",
        lambda: app.send_task("imgsys.analyze", args=many, queue="imgsys"),
    )

    # Whoever sent one that has an id hears of it.
    told = app.send_task("tasks.add", args=[1, 2], queue="imgsys")
    error = told.get(timeout=20, propagate=False)
    equal("state", told.state, "FAILURE")
    equal("told", "dead_letter" in str(error) and "tasks.add" in str(error), True)

    # Long, but below the limit of 1 MiB, Base64 included.
    ample = {**place.image(), "more": "x" * 500_000}
    for kwargs in (ample, place.image()):
        sent = app.send_task("imgsys.analyze", kwargs=kwargs, queue="imgsys")
        equal("state", sent.get(timeout=20)["attempts"], 1)
    equal("the worker runs", worker.child.runs, True)
    until("nothing is held any more", lambda: redis.held() == 0)


def expect(redis: Redis, reason: str, send: object) -> None:
    """Sends a message and waits for its dead letter."""
    before = len(redis.dead())
    send()
    until(f"a dead letter: {reason}", lambda: len(redis.dead()) == before + 1, seconds=10)
    letter = json.loads(redis.dead()[0])
    equal(f"reason ({letter['detail']})", letter["reason"], reason)
    equal("queue", letter["queue"], "imgsys")
    equal("has a time and its message", bool(letter["at"] and letter["message"]), True)
