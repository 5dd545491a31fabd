"""Our server sends tasks, the worker of examples/python-worker does them."""

import shutil

from runner.cases import case
from runner.place import SAMPLES, Place
from runner.wait import equal, until


@case
def whole_way(place: Place) -> None:
    """Client, stream, rows and history see a Python worker's results like any other's."""
    system = place.system()
    place.python_worker(system)
    broken = place.directory / "broken.jpg"
    broken.write_bytes((SAMPLES / "cat.jpg").read_bytes()[:20000])
    odd = place.directory / "odd.png"
    odd.write_bytes(b"this is no image")
    sent = [str(file) for file in (SAMPLES / "cat.jpg", SAMPLES / "espresso.png", broken, odd)]
    code, lines = system.imgsys("send", *sent)
    equal("exit code of send", code, 1)
    told = {str(line["name"]).rpartition("/")[2]: line for line in lines}
    cat = told["cat.jpg"]
    equal("state", cat["state"], "done")
    equal("analyzer", cat["analyzer"]["name"], "colour")
    equal("worker", str(cat["worker"]).startswith("celery@"), True)
    equal("format", cat["properties"]["format"], "jpeg")
    equal("reason", told["broken.jpg"]["reason"], "corrupt")
    equal("reason", told["odd.png"]["reason"], "unsupported_format")

    def history() -> dict[str, dict[str, object]]:
        rows = {str(row["job"]): row for row in system.imgsys("history", "--all")[1]}
        return rows if len(rows) == 4 and all(r["state"] != "queued" for r in rows.values()) else {}

    rows = until("the history has all", history)
    for line in lines:
        row = rows[str(line["job"])]
        for key in ("state", "label", "confidence", "reason", "detail", "worker", "attempts"):
            equal(f"{key} in the history", row.get(key), line.get(key))
    until("nothing is open", lambda: not system.client.keys("imgsys:open:*"))
    equal("held", system.client.hlen("unacked"), 0)
    entries = system.client.xrange("imgsys:events")
    kinds = sorted(entry["event"] for _, entry in entries)
    if kinds and kinds != ["accepted"] * 4 + ["failed"] * 2 + ["finished"] * 2:
        raise AssertionError(f"events: {kinds}")


@case
def image_gone(place: Place) -> None:
    """A Python worker fails a job whose image is gone, and tries again where a disk is away."""
    system = place.system()
    code, lines = system.imgsys("send", "--no-wait", str(SAMPLES / "cat.jpg"))
    equal("exit code of send", code, 0)
    job = str(lines[0]["job"])
    until("the task is on the queue", lambda: system.client.keys("imgsys\x06*"))
    hidden = system.images.with_name("hidden")
    system.images.rename(hidden)
    place.python_worker(system)
    until("it is to be tried again", lambda: "Retry in 1s" in worker_log(place))
    shutil.rmtree(hidden)
    system.images.mkdir()
    _, shown = system.imgsys("wait", job)
    equal("state", shown[0]["state"], "failed")
    equal("reason", shown[0]["reason"], "image_missing")


def worker_log(place: Place) -> str:
    """What the Python worker has said."""
    return "".join(child.log.read_text() for child in place.children.all if "python" in child.name)


@case
def result_for_celery(place: Place) -> None:
    """A task that no server sent: Celery's result alone, also from the Python worker."""
    redis = place.redis()
    place.python_worker(redis, env={"IMGSYS_IMAGE_SOURCES": f"file://{place.images}/"})
    app = place.app(redis)
    sent = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    got = sent.get(timeout=20)
    equal("analyzer", got["outcome"]["done"]["analyzer"]["name"], "colour")
    lost = {**place.image(), "sha256": "0" * 64}
    failed = app.send_task("imgsys.analyze", kwargs=lost, queue="imgsys")
    error = failed.get(timeout=20, propagate=False)
    equal("state", failed.state, "FAILURE")
    equal("kind", type(error).__name__, "AnalysisFailed")
    equal("events", redis.client.exists("imgsys:events"), 0)
