"""`celery inspect`, `status` and `control` work on our workers as on Python's."""

import json
import time

from celery.exceptions import TaskRevokedError
from runner.cases import case
from runner.place import Place, Worker
from runner.redis import Redis
from runner.wait import equal, until


def ready(place: Place, redis: Redis, worker: Worker) -> str:
    """Waits until a worker answers; gives its name."""
    app = place.app(redis)
    name = worker.name
    until("the worker answers", lambda: app.control.ping(destination=[name], timeout=0.5))
    return name


def inspect(place: Place, redis: Redis, name: str, *words: str) -> object:
    """What `celery inspect …` gives of a worker."""
    to = ("--timeout", "10", "--destination", name)
    code, out = place.celery(redis, "inspect", "--json", *to, *words)
    equal(f"exit code of inspect {words[0]}: {out}", code, 0)
    return json.loads(out[out.index("{") :])[name]


def control(place: Place, redis: Redis, name: str, *words: str) -> object:
    """What `celery control …` gives of a worker."""
    to = ("--timeout", "10", "--destination", name)
    code, out = place.celery(redis, "control", "--json", *to, *words)
    equal(f"exit code of control {words[0]}: {out}", code, 0)
    return json.loads(out[out.index("[") :])[0][name]


@case
def status_and_ping(place: Place) -> None:
    """`celery status` and `inspect ping` find two of our workers and a Python one."""
    redis = place.redis()
    names = [ready(place, redis, place.worker(redis)) for _ in range(2)]
    place.python_worker(redis)
    app = place.app(redis)
    until("three workers answer", lambda: len(app.control.ping(timeout=1)) == 3)
    code, out = place.celery(redis, "status", "--timeout", "2")
    equal("exit code", code, 0)
    for name in names:
        equal(f"{name} is shown as OK: {out}", f"{name}: OK" in out.replace("->  ", ""), True)
    equal("nodes online", "3 nodes online" in out, True)
    code, out = place.celery(redis, "inspect", "--json", "--timeout", "2", "ping")
    pongs = json.loads(out[out.index("{") :])
    equal("pongs of ours", [pongs[name] for name in names], [{"ok": "pong"}] * 2)
    equal("of one that is asked", inspect(place, redis, names[0], "ping"), {"ok": "pong"})


@case
def questions(place: Place) -> None:
    """inspect active | reserved | scheduled | registered | stats | report | conf | active_queues."""
    redis = place.redis()
    worker = place.worker(redis, threads="1", prefetch="3", delay="20s")
    name = ready(place, redis, worker)
    app = place.app(redis)
    later = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", countdown=3600)
    until("it holds the one that waits", lambda: redis.held() == 1)
    kwargs = [place.image() for _ in range(3)]
    sent = [app.send_task("imgsys.analyze", kwargs=each, queue="imgsys") for each in kwargs]
    until("it holds all", lambda: redis.held() == 4)
    active = until("one is active", lambda: inspect(place, redis, name, "active"))
    equal("active", [task["id"] for task in active], [sent[0].id])
    for field in ("name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged"):
        if field not in active[0]:
            raise AssertionError(f"no {field} in {active[0]}")
    equal("worker_pid", active[0]["worker_pid"], worker.child.process.pid)
    equal("kwargs are told", kwargs[0]["sha256"] in str(active[0]["kwargs"]), True)
    reserved = inspect(place, redis, name, "reserved")
    equal("reserved", sorted(t["id"] for t in reserved), sorted(s.id for s in sent[1:]))
    scheduled = inspect(place, redis, name, "scheduled")
    equal("scheduled", [task["request"]["id"] for task in scheduled], [later.id])
    equal("registered", inspect(place, redis, name, "registered"), ["imgsys.analyze"])
    queues = inspect(place, redis, name, "active_queues")
    equal("queues", [queue["name"] for queue in queues], ["imgsys"])
    stats = inspect(place, redis, name, "stats")
    equal("pid", stats["pid"], worker.child.process.pid)
    equal("concurrency", stats["pool"]["max-concurrency"], 1)
    for field in ("total", "broker", "clock", "uptime", "rusage", "prefetch_count"):
        if field not in stats:
            raise AssertionError(f"no {field} in {stats}")
    equal("report", "software" in inspect(place, redis, name, "report")["ok"], True)
    conf = inspect(place, redis, name, "conf")
    equal("its queue, in conf", conf["task_default_queue"], "imgsys")


@case
def steering(place: Place) -> None:
    """control pool_grow | pool_shrink | rate_limit | enable_events | add_/cancel_consumer."""
    redis = place.redis()
    name = ready(place, redis, place.worker(redis, threads="1", prefetch="1"))
    app = place.app(redis)

    def threads() -> object:
        return inspect(place, redis, name, "stats")["pool"]["max-concurrency"]

    equal("pool_grow", control(place, redis, name, "pool_grow", "2"), {"ok": "pool will grow"})
    until("there are three threads", lambda: threads() == 3)
    equal("pool_shrink", control(place, redis, name, "pool_shrink", "2"), {"ok": "pool will shrink"})
    until("there is one thread", lambda: threads() == 1)
    limit = control(place, redis, name, "rate_limit", "imgsys.analyze", "1/s")
    equal("rate_limit", limit, {"ok": "new rate limit set successfully"})
    begin = time.monotonic()
    sent = [
        app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys") for _ in range(4)
    ]
    for result in sent:
        result.get(timeout=20)
    took = time.monotonic() - begin
    equal(f"four tasks take three seconds at 1/s ({took:.1f})", 2.5 < took < 8, True)
    control(place, redis, name, "rate_limit", "imgsys.analyze", "0")
    unknown = control(place, redis, name, "rate_limit", "tasks.add", "1/s")
    equal("rate_limit of an unknown task", "error" in unknown, True)
    told = control(place, redis, name, "enable_events")
    equal("enable_events", "ok" in told and "enabled" in told["ok"], True)

    told = control(place, redis, name, "cancel_consumer", "imgsys")
    equal("cancel_consumer", told, {"ok": "no longer consuming from imgsys"})
    stays = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    time.sleep(0.5)  # in which nothing may happen
    equal("state of a task that nobody takes", stays.state, "PENDING")
    told = control(place, redis, name, "add_consumer", "imgsys")
    equal("add_consumer", told, {"ok": "add consumer imgsys"})
    stays.get(timeout=20)
    equal("add_consumer of another", "error" in control(place, redis, name, "add_consumer", "x"), True)


@case
def revoke(place: Place) -> None:
    """control revoke: before a task begins, and with terminate while it runs."""
    redis = place.redis()
    name = ready(place, redis, place.worker(redis, threads="1", prefetch="2", delay="5s"))
    app = place.app(redis)
    runs = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    waits = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    until("both are held", lambda: redis.held() == 2)
    told = control(place, redis, name, "revoke", waits.id)
    equal("revoke", "ok" in told and "flagged as revoked" in told["ok"], True)
    told = control(place, redis, name, "terminate", "SIGTERM", runs.id)
    equal("terminate", "ok" in told and "terminate" in told["ok"], True)
    for result in (runs, waits):
        try:
            got = result.get(timeout=20)
        except TaskRevokedError:
            equal("state", result.state, "REVOKED")
        else:
            raise AssertionError(f"a revoked task was done: {got}")
    until("nothing is held any more", lambda: redis.held() == 0)
    never = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", countdown=2)
    app.control.revoke(never.id)
    after = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys", countdown=2)
    after.get(timeout=30)
    until("revoked before it was taken", lambda: never.state == "REVOKED")


@case
def shutdown(place: Place) -> None:
    """control shutdown ends a worker warmly, and the others go on."""
    redis = place.redis()
    leaves = place.worker(redis)
    stays = place.worker(redis)
    name = ready(place, redis, leaves)
    ready(place, redis, stays)
    app = place.app(redis)
    place.celery(redis, "control", "--timeout", "1", "--destination", name, "shutdown")
    until("it has ended", lambda: not leaves.child.runs)
    equal("exit code", leaves.child.process.returncode, 0)
    equal("the other runs", stays.child.runs, True)
    app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys").get(timeout=20)


@case
def replies_do_not_pile_up(place: Place) -> None:
    """A list of replies that nobody fetches has a time to live."""
    redis = place.redis()
    ready(place, redis, place.worker(redis))
    app = place.app(redis)
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        mailbox = app.control.mailbox(connection)
        replies = mailbox.reply_queue(channel)
        replies.declare()
        # As `celery inspect` asks, but nobody stays to hear the answer.
        mailbox._publish("ping", {}, reply_ticket="x", channel=channel)
        until("the reply is there", lambda: redis.client.llen(replies.name))
        seconds = redis.client.ttl(replies.name)
        equal(f"the list of replies lives for {seconds} s", 0 < seconds <= 60, True)
