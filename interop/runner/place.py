"""What a case works with: a folder, and in it whatever it starts."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from celery import Celery
from PIL import Image

from .children import Child, Children
from .redis import Redis
from .system import System
from .wait import until

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLES = CHECKOUT / "samples"
EXAMPLE = CHECKOUT / "examples" / "python-worker"
PEERS = CHECKOUT / "interop" / "peers"


class Worker:
    """A worker of ours."""

    def __init__(self, child: Child) -> None:
        self.child = child

    @property
    def name(self) -> str:
        """Its name among Celery's workers."""

        def told() -> str | None:
            for line in self.child.log.read_text(errors="replace").splitlines():
                _, found, rest = line.partition("worker imgsys-")
                if found:
                    return "imgsys-" + rest.split()[0]
            if not self.child.runs:
                raise AssertionError(f"the worker has ended:\n{self.child.tail()}")
            return None

        return str(until("the worker tells its name", told))


class Place:
    """A folder of a case's own, and all that the case has started."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self.programs = programs
        self.directory = directory
        self.images = directory / "images"
        self.images.mkdir()
        self.logs = directory / "log"
        self.logs.mkdir()
        self.children = Children(self.logs)
        self._apps: list[Celery] = []
        self._count = 0

    def end(self) -> None:
        """Ends all that was started."""
        for app in self._apps:
            app.close()
        self.children.end()

    def redis(self, database: int = 0, arguments: Sequence[str] = ()) -> Redis:
        """Starts a Redis."""
        return Redis(self.children, self.directory, database, arguments).await_ready()

    def system(self, **settings: str) -> System:
        """Starts the whole of imgsys, without a worker; a setting is written `worker_lease="5s"`."""
        return System(self.children, self.programs, self.directory / "system", variables(settings))

    def worker(self, redis: Redis, events: str = "worker", **settings: str) -> Worker:
        """Starts a worker of ours; a setting of its section is written `lease="5s"`."""
        given = {f"worker_{key}": value for key, value in settings.items()}
        given["celery_events"] = events
        env = {
            "IMGSYS_REDIS_URL": redis.url,
            "IMGSYS_WORKER_IMAGE_SOURCES": f"file://{self.images}/",
            "IMGSYS_WORKER_HTTP_LISTEN": "",
            "IMGSYS_WORKER_CLASSIFIER": "simulated",
            "IMGSYS_WORKER_THREADS": "2",
            **redis.env,
            **variables(given),
        }
        argv = [str(self.programs / "imgsys-worker")]
        return Worker(self.children.start(self._name("worker"), argv, env))

    def python_worker(
        self, redis: Redis, *flags: str, env: dict[str, str] | None = None
    ) -> Child:
        """Starts the worker of examples/python-worker."""
        variables = {
            "IMGSYS_REDIS_URL": redis.celery_url,
            "IMGSYS_IMAGE_SOURCES": redis.env.get("IMGSYS_WORKER_IMAGE_SOURCES", ""),
            "PYTHONPATH": str(EXAMPLE),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        argv = [sys.executable, "-m", "celery", "-A", "worker", "worker"]
        argv += ["--concurrency", "1", "-Q", "imgsys", "--loglevel", "info", *flags]
        return self.children.start(self._name("python-worker"), argv, variables)

    def peer(self, redis: Redis, module: str, *flags: str) -> Child:
        """Starts a Python worker with the tasks of a file in peers/."""
        env = {
            "PYTHONPATH": str(PEERS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BROKER": redis.celery_url,
            "SETTINGS": json.dumps(redis.settings),
        }
        argv = [sys.executable, "-m", "celery", "-A", module, "worker", "--pool", "solo"]
        argv += ["--loglevel", "info", "--without-mingle", "--without-gossip", *flags]
        return self.children.start(self._name(f"peer-{module}"), argv, env)

    def app(self, redis: Redis, **settings: object) -> Celery:
        """A Celery app, as anybody would make one to send tasks."""
        app = Celery("interop", broker=redis.celery_url, backend=redis.celery_url)
        app.conf.update({**redis.settings, **settings})
        self._apps.append(app)
        return app

    def celery(self, redis: Redis, *words: str, seconds: float = 30.0) -> tuple[int, str]:
        """Runs Celery's own command line; gives its exit code and what it wrote."""
        argv = [sys.executable, "-m", "celery", "-b", redis.celery_url, *words]
        done = subprocess.run(
            argv,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def image(self, text: str = "") -> dict[str, object]:
        """Makes an image that no other is like, and gives the task's arguments for it."""
        self._count += 1
        digest = hashlib.sha256(f"{text}{self._count}{uuid.uuid4()}".encode()).digest()
        out = io.BytesIO()
        Image.frombytes("RGB", (2, 5), digest[:30]).resize((20, 50)).save(out, "PNG")
        return self.store(out.getvalue(), f"{self._count}.png")

    def store(self, data: bytes, name: str) -> dict[str, object]:
        """Stores a file as a server does, and gives the task's arguments for it."""
        digest = hashlib.sha256(data).hexdigest()
        file = self.images / digest[:2] / digest
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        return {
            "job": str(uuid.uuid4()),
            "sha256": digest,
            "size": len(data),
            "image_url": f"file://{file}",
            "name": name,
        }

    def _name(self, name: str) -> str:
        self._count += 1
        return f"{name}-{self._count}"


def variables(settings: dict[str, str]) -> dict[str, str]:
    """Settings as the variables of imgsys' programs."""
    return {f"IMGSYS_{key.upper()}": value for key, value in settings.items()}


def opened(message: str) -> dict[str, object]:
    """A message with its body decoded."""
    read = json.loads(message)
    read["body"] = json.loads(base64.b64decode(read["body"]))
    return read
