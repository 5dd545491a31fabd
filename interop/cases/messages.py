"""What lies on the queue is what Python puts there."""

from runner.cases import case
from runner.place import SAMPLES, Place, opened
from runner.wait import equal, until

# What no two messages share, or what says who sent it.
OWN = {
    ("headers", "lang"), ("headers", "origin"),
    ("properties", "reply_to"), ("properties", "delivery_tag"),
}  # fmt: skip


@case
def from_our_server(place: Place) -> None:
    """Our server's message equals Python's for the same task and header, field by field."""
    system = place.system()
    code, lines = system.imgsys("send", "--no-wait", "--priority", "7", str(SAMPLES / "cat.jpg"))
    equal("exit code of send", code, 0)
    key = "imgsys\x06\x166"
    ours = opened(str(until("the message is there", lambda: system.client.lindex(key, 0))))
    job = lines[0]["job"]
    args, kwargs, embed = ours["body"]
    equal("the task's id", ours["headers"]["id"], job)

    redis = place.redis()
    place.app(redis).send_task(
        "imgsys.analyze",
        args=args,
        kwargs=kwargs,
        task_id=str(job),
        queue="imgsys",
        priority=7,
        ignore_result=False,
        headers={"xxh3": ours["headers"]["xxh3"]},
    )
    python = opened(redis.client.lindex(key, 0))
    same(ours, python)


def same(ours: dict[str, object], python: dict[str, object]) -> None:
    """Fails unless the messages differ in nothing but what no two messages share."""
    equal("parts of the message", list(sorted(ours)), list(sorted(python)))
    for part, value in python.items():
        if not isinstance(value, dict):
            equal(part, ours[part], value)
            continue
        equal(f"names in {part}", sorted(ours[part]), sorted(value))
        for name, theirs in value.items():
            if (part, name) not in OWN:
                equal(f"{part}.{name}", ours[part][name], theirs)
