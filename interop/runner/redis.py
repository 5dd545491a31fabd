"""A Redis of one's own."""

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import redis

from .children import Children
from .wait import until


class Redis:
    """A private redis-server: where it is, as each library spells it, and a client for looks into it."""

    def __init__(
        self,
        children: Children,
        directory: Path,
        database: int = 0,
        arguments: Sequence[str] = (),
    ) -> None:
        self.socket = directory / "redis.sock"
        self.database = database
        # As imgsys spells it, and as Celery does.
        self.url = f"unix://{self.socket}?db={database}"
        self.celery_url = f"redis+socket://{self.socket}?virtual_host={database}"
        # Further variables for imgsys' programs, and settings for Celery.
        self.env: dict[str, str] = {}
        self.settings: dict[str, object] = {}
        self.prefix = ""
        argv = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no"]
        argv += ["--loglevel", "warning", "--maxmemory-policy", "noeviction", "--dir", str(directory)]
        argv += ["--unixsocket", str(self.socket), *arguments]
        self.process = children.start("redis", argv)
        self.client = redis.Redis(
            unix_socket_path=str(self.socket), db=database, decode_responses=True
        )

    def await_ready(self) -> "Redis":
        """Waits until it answers, be it with a demand for a password."""

        def answers() -> bool:
            if not self.process.runs:
                raise AssertionError(f"redis-server has ended:\n{self.process.tail()}")
            try:
                return bool(self.client.ping())
            except redis.exceptions.AuthenticationError:
                return True
            except redis.exceptions.ConnectionError:
                return False

        until("Redis answers", answers)
        return self

    def waiting(self, queue: str = "imgsys") -> list[str]:
        """The messages on a queue, the next one first."""
        lists = [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]
        return [
            message
            for name in lists
            for message in reversed(self.client.lrange(self.prefix + name, 0, -1))
        ]

    def held(self) -> int:
        """How many messages workers hold."""
        return int(self.client.hlen(f"{self.prefix}unacked"))

    def dead(self) -> list[str]:
        """The dead letters, newest first."""
        return list(self.client.lrange(f"{self.prefix}imgsys:dead", 0, -1))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
