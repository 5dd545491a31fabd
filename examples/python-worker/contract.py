"""What a worker written with Celery owes imgsys' queue: docs/queue.md in Python."""

import hashlib
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis.exceptions
from celery.exceptions import Ignore, Retry
from celery.signals import worker_ready
from kombu.utils.json import dumps

HERE = Path(__file__).parent
NAMES = ("job", "sha256", "size", "image_url", "run", "owner", "server", "name", "priority")
NAMES += ("submitted_at",)
NOBODY = "00000000-0000-0000-0000-000000000000"
MAX_RETRIES = 20
MAX_REDELIVERIES = 5


class Failed(Exception):
    """The image can't be analysed: one of the reasons of docs/queue.md, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class AnalysisFailed(Exception):
    """What Celery's AsyncResult.get() raises for a job that failed."""


class Away(Exception):
    """Something else is away: the task is to be tried again."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server that sends us elsewhere is not followed."""

    def redirect_request(self, *_):
        return None


class Contract:
    """How an app is set up, and how its task ends."""

    def __init__(
        self, app, lease: float, sources: list[str], prefix: str = "", token: str | None = None
    ) -> None:
        self.app, self.lease, self.sources, self.prefix = app, lease, sources, prefix
        self.open = urllib.request.build_opener(NoRedirect).open
        # Shown to the servers from which images come over HTTP, and nowhere else.
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def configure(self, **settings) -> None:
        """The settings that the promise rests on; anything else is a matter of taste."""
        self.app.conf.update(
            # The message is held until the task has ended, and comes again if its holder dies.
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            worker_prefetch_multiplier=1,
            result_expires=600,
            # All workers of a queue agree on the lease; `renew` is for tasks longer than that.
            broker_transport_options={
                "visibility_timeout": self.lease,
                "unacked_restore_interval": self.lease / 3,
                "unacked_restore_throttle": 1,
                # Else a worker that is killed while it restores holds up the others for 5 minutes.
                "unacked_mutex_expire": 5,
                "global_keyprefix": self.prefix,
            },
            result_backend_transport_options={"global_keyprefix": self.prefix},
            **settings,
        )
        worker_ready.connect(self.renew, weak=False)

    def renew(self, sender, **_) -> None:
        """Renews the leases of what this worker holds, from its parent process."""

        def forever() -> None:
            renew = self.app.backend.client.register_script((HERE / "renew.lua").read_text())
            while True:
                time.sleep(self.lease / 3)
                try:
                    tags = list(sender.task_consumer.channel.qos._delivered)
                    if tags:
                        renew([f"{self.prefix}unacked_index"], tags)
                except (redis.exceptions.RedisError, AttributeError, RuntimeError):
                    continue  # it connects anew just now, or the table changed while it was read

        threading.Thread(target=forever, daemon=True).start()

    @contextmanager
    def job(self, task, args, kwargs):
        """Runs the block for a job, and ends the job whatever comes of it."""
        job = Job(self, task, {**dict(zip(NAMES, args)), **kwargs})
        try:
            job.check_redeliveries()
            yield job
        except (Retry, Ignore):
            raise
        except Away as error:
            if task.request.retries < MAX_RETRIES:
                pause = min(300, 2**task.request.retries)
                raise task.retry(exc=error, countdown=pause, max_retries=None) from error
            job.failed("retries_exhausted", str(error))
        except Failed as error:
            job.failed(error.reason, error.detail)
        except Exception as error:
            job.failed("analyzer_error", f"{type(error).__name__}: {error}")


class Job:
    """One job in the hands of this worker."""

    def __init__(self, contract: Contract, task, given: dict) -> None:
        self.contract, self.request = contract, task.request
        self.redis = contract.app.backend.client
        self.begun = micros()
        defaults = {"run": 0, "owner": "local", "server": NOBODY, "name": "", "priority": 5}
        self.given = {**defaults, "submitted_at": self.begun, **given}

    def check_redeliveries(self) -> None:
        """A task that comes again and again has killed its workers: enough is enough."""
        if self.request.delivery_info.get("redelivered"):
            key = f"{self.contract.prefix}imgsys:takeovers"
            # `alone`: it has been condemned to its last chance by one of imgsys' own workers.
            times = self.redis.hget(key, self.request.id) or 0
            if times == b"alone" or self.redis.hincrby(key, self.request.id, 1) > MAX_REDELIVERIES:
                raise Failed("dead_letter", "every worker that took it died")

    def image(self) -> bytes:
        """The image's bytes, which are those that the server accepted."""
        given, url = self.given, self.given["image_url"]
        missing = {"job", "sha256", "size", "image_url"} - given.keys()
        if missing:
            raise Failed("bad_arguments", f"without {', '.join(sorted(missing))}")
        digest = given["sha256"]
        # In a directory images lie in folders, over HTTP they do not.
        place = f"{digest[:2]}/{digest}" if urlsplit(url).scheme == "file" else digest
        if url not in (source + place for source in self.contract.sources):
            raise Failed("bad_arguments", "the image's URL is under none of IMGSYS_IMAGE_SOURCES")
        try:
            request = urllib.request.Request(url, headers=self.contract.headers)
            with self.contract.open(request, timeout=30) as answer:
                data = answer.read(given["size"] + 1)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise Failed("image_missing", "the image is not at its server any more") from error
            raise Away(f"fetching the image: {error}") from error
        except OSError as error:
            # Without the folder of images a disk is not mounted, and no image lost.
            place = urlsplit(url)
            if place.scheme == "file" and Path(place.path).parents[1].is_dir():
                raise Failed("image_missing", "the image is not at its server any more") from error
            raise Away(f"fetching the image: {error}") from error
        if hashlib.sha256(data).hexdigest() != given["sha256"]:
            raise Failed("digest_mismatch", "not the image that was accepted")
        return data

    def done(self, analysis: dict) -> dict:
        """Ends the job with an analysis; gives what Celery's result is."""
        return self.end({"done": analysis})

    def failed(self, reason: str, detail: str) -> None:
        """Ends the job as failed; raises what Celery's result is."""
        self.end({"failed": {"reason": reason, "detail": detail}})
        raise AnalysisFailed(f"{reason}: {detail}")

    def end(self, outcome: dict) -> dict:
        """The finishing script: the event, the news for the server, and the acknowledgement."""
        given, prefix, now = self.given, self.contract.prefix, micros()
        result = {
            "run": given["run"],
            "outcome": outcome,
            "worker": self.request.hostname,
            "attempts": self.request.retries + 1,
            "queued_us": max(0, self.begun - given["submitted_at"]),
            "analysis_us": now - self.begun,
            "finished_at": now,
        }
        job = {name: given.get(name) for name in NAMES if name not in ("job", "image_url", "run")}
        event = {"job": {"id": given.get("job"), **job}, "result": result}
        keys = [f"imgsys:open:{given['server']}", "imgsys:events", "unacked", "unacked_index"]
        keys += ["imgsys:takeovers", f"celery-task-meta-{self.request.id}", "imgsys:dead"]
        args = [given.get("job", ""), f"queued.{given['run']}" if given["run"] else "queued"]
        args += ["done" in outcome and "finished" or "failed", dumps(event)]
        # Celery's own result is left to Celery, which does it after this.
        args += [f"{prefix}imgsys:results:{given['server']}", "", 600, "", 10000, self.request.id]
        args += [self.request.properties["delivery_tag"]]
        finish = self.redis.register_script((HERE / "finish.lua").read_text())
        while True:
            try:
                finish([prefix + key for key in keys], args)
                return result
            except redis.exceptions.ConnectionError:
                time.sleep(1)  # whether it has been done or not, it does nothing twice


def micros() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000
