"""The whole of imgsys, as `imgsys-local up` runs it."""

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import redis

from .children import Child, Children
from .redis import free_port
from .wait import until


class System:
    """Server, persister, Redis and PostgreSQL; a case starts the workers it wants."""

    def __init__(
        self, children: Children, programs: Path, directory: Path, env: dict[str, str]
    ) -> None:
        self.programs = programs
        self.directory = directory
        directory.mkdir()
        # PostgreSQL does not run as root, and has to get through.
        for folder in (directory, directory.parent, directory.parent.parent):
            folder.chmod(folder.stat().st_mode | 0o111)
        argv = [str(programs / "imgsys-local"), "up", "--data", str(directory / "data")]
        self.http = f"127.0.0.1:{free_port()}"
        argv += ["--listen", "127.0.0.1:0", "--http-listen", self.http, "--workers", "0"]
        tuning = {"IMGSYS_PERSISTER_HTTP_LISTEN": "", **env}
        self.up: Child = children.start("system", argv, tuning)
        self.address = self._address()
        self.images = directory / "data" / "server" / "images"
        # What a worker has to know of a Redis.
        self.socket = directory / "data" / "redis" / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.celery_url = f"redis+socket://{self.socket}"
        self.env: dict[str, str] = {"IMGSYS_WORKER_IMAGE_SOURCES": f"file://{self.images}/"}
        self.settings: dict[str, object] = {}
        self.client = redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def _address(self) -> str:
        def told() -> str | None:
            if not self.up.runs:
                raise AssertionError(f"imgsys-local has ended:\n{self.up.tail()}")
            found = re.search(r"IMGSYS_SERVER=(\S+)", self.up.log.read_text())
            return found.group(1) if found else None

        return str(until("the system is up", told, seconds=120))

    def imgsys(self, *words: str, seconds: float = 120.0) -> tuple[int, list[dict[str, object]]]:
        """Runs the client with --json; gives its exit code and the lines that it printed."""
        done = subprocess.run(
            [str(self.programs / "imgsys"), *words, "--json"],
            env={**os.environ, "IMGSYS_SERVER": self.address},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            text=True,
            check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def metric(self, name: str) -> float:
        """A number that the server's metrics tell."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0
