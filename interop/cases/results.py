"""How tasks end, for Python's AsyncResult."""

import io

from PIL import Image
from runner.cases import case
from runner.place import SAMPLES, Place
from runner.wait import equal


@case
def failures(place: Place) -> None:
    """Whatever can't be analysed arrives as a Celery failure that says why."""
    redis = place.redis()
    place.worker(redis)
    app = place.app(redis)
    cat = (SAMPLES / "cat.jpg").read_bytes()
    giant = io.BytesIO()
    Image.new("1", (30000, 30000)).save(giant, "PNG")
    gone = place.image()
    (place.images / str(gone["sha256"])[:2] / str(gone["sha256"])).unlink()
    other = place.store(cat, "other.jpg")
    file = place.images / str(other["sha256"])[:2] / str(other["sha256"])
    file.write_bytes(cat[:-1] + b"x")
    cases = {
        "image_missing": gone,
        "digest_mismatch": other,
        "unsupported_format": place.store(b"this is no image", "text.txt"),
        "truncated": place.store(cat[:20000], "half.jpg"),
        "too_large": place.store(giant.getvalue(), "giant.png"),
        "bad_arguments": {**place.image(), "image_url": "file:///etc/passwd"},
    }
    sent = {
        reason: app.send_task("imgsys.analyze", kwargs=kwargs, queue="imgsys")
        for reason, kwargs in cases.items()
    }
    for reason, result in sent.items():
        error = result.get(timeout=20, propagate=False)
        equal(f"state for {reason}", result.state, "FAILURE")
        equal("kind", type(error).__name__, "AnalysisFailed")
        if not str(error).startswith(f"{reason}: "):
            raise AssertionError(f"{reason} is told as {error}")


@case
def of_servers_jobs(place: Place) -> None:
    """AsyncResult(job) gives the analysis of a job that a client sent."""
    system = place.system()
    place.worker(system)
    code, lines = system.imgsys("send", str(SAMPLES / "cat.jpg"))
    equal("exit code of send", code, 0)
    app = place.app(system)
    got = app.AsyncResult(lines[0]["job"]).get(timeout=20)
    equal("label", got["outcome"]["done"]["label"], lines[0]["label"])
    equal("worker", got["worker"], lines[0]["worker"])
