"""Celery's events: whoever watches Celery sees our workers and tasks."""

import contextlib
import json
import sys
import threading
import urllib.error
import urllib.request

from runner.cases import case
from runner.place import Place
from runner.redis import free_port
from runner.wait import equal, until

TASK = {"task-received", "task-started", "task-succeeded", "task-failed"}


@case
def received(place: Place) -> None:
    """app.events.Receiver gets what a Python worker would send, with clocks and offsets."""
    redis = place.redis()
    app = place.app(redis)
    caught: list[dict[str, object]] = []
    state = app.events.State()

    def keep(event: dict[str, object]) -> None:
        state.event(dict(event))
        caught.append(event)

    def capture() -> None:
        # It ends with the case's process, whose Redis is gone before.
        with app.connection() as connection, contextlib.suppress(Exception):
            receiver = app.events.Receiver(connection, handlers={"*": keep})
            receiver.capture(limit=None, timeout=None, wakeup=True)

    threading.Thread(target=capture, daemon=True).start()
    worker = place.worker(redis, events="task")
    name = worker.name

    def kinds(task: str | None = None) -> set[object]:
        return {event["type"] for event in caught if task in (None, event.get("uuid"))}

    until("worker-online or a heartbeat", lambda: kinds() & {"worker-online", "worker-heartbeat"})
    done = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    text = place.store(b"no image", "text")
    failed = app.send_task("imgsys.analyze", kwargs=text, queue="imgsys")
    until("it succeeded", lambda: "task-succeeded" in kinds(done.id))
    until("it failed", lambda: "task-failed" in kinds(failed.id))
    equal("of a success", kinds(done.id) & TASK, TASK - {"task-failed"})
    equal("of a failure", kinds(failed.id) & TASK, TASK - {"task-succeeded"})
    until("a heartbeat", lambda: "worker-heartbeat" in kinds(), seconds=10)
    for event in caught:
        for field in ("hostname", "pid", "clock", "timestamp", "utcoffset", "local_received"):
            if field not in event:
                raise AssertionError(f"no {field} in {event}")
        equal("hostname", event["hostname"], name)
    beat = next(event for event in caught if event["type"] == "worker-heartbeat")
    for field in ("freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"):
        if field not in beat:
            raise AssertionError(f"no {field} in {beat}")
    task = state.tasks[done.id]
    equal("state", task.state, "SUCCESS")
    equal("name", task.name, "imgsys.analyze")
    equal("runtime is told", task.runtime > 0, True)
    equal("arguments are told", "image_url" in task.kwargs, True)
    equal("state", state.tasks[failed.id].state, "FAILURE")
    equal("why", "unsupported_format" in state.tasks[failed.id].exception, True)
    equal("alive", [each.hostname for each in state.alive_workers()], [name])
    worker.child.stop()
    until("worker-offline", lambda: "worker-offline" in kinds())


@case
def flower(place: Place) -> None:
    """Flower shows our workers and tasks, with state, runtime and arguments."""
    redis = place.redis()
    port = free_port()
    argv = [sys.executable, "-m", "celery", "-b", redis.celery_url]
    argv += [f"--result-backend={redis.celery_url}", "flower", "--address=127.0.0.1"]
    argv += [f"--port={port}"]
    place.children.start("flower", argv, {"FLOWER_UNAUTHENTICATED_API": "true"})

    def ask(path: str) -> dict[str, dict[str, object]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    until("Flower answers", answers)
    worker = place.worker(redis, events="task")
    app = place.app(redis)
    name = worker.name
    until("Flower shows the worker", lambda: name in ask("/api/workers?refresh=true"))
    shown = ask("/api/workers")[name]
    equal("registered", any("imgsys.analyze" in task for task in shown["registered"]), True)
    equal("queues", [queue["name"] for queue in shown["active_queues"]], ["imgsys"])
    done = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    failed = app.send_task("imgsys.analyze", kwargs=place.store(b"no", "no"), queue="imgsys")

    def state(task: str) -> object:
        return ask("/api/tasks").get(task, {}).get("state")

    until("the success is shown", lambda: state(done.id) == "SUCCESS")
    until("the failure is shown", lambda: state(failed.id) == "FAILURE")
    task = ask("/api/tasks")[done.id]
    equal("name", task["name"], "imgsys.analyze")
    equal("worker", task["worker"], name)
    equal("runtime is shown", float(task["runtime"]) > 0, True)
    equal("arguments are shown", "image_url" in str(task["kwargs"]), True)
    equal("its result is shown", "simulated" in str(task["result"]), True)


@case
def can_be_off(place: Place) -> None:
    """With celery.events = "off" nothing is published."""
    redis = place.redis()
    worker = place.worker(redis, events="off")
    app = place.app(redis)
    listening = redis.client.pubsub()
    listening.psubscribe("*celeryev*")
    listening.get_message(timeout=5)
    app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys").get(timeout=20)
    worker.child.stop()
    equal("heard", listening.get_message(timeout=0.2), None)
