"""What the machines of the scenarios are on a Debian host. `nodes.nix` says the same for NixOS.

The names of units, places and users of Redis and PostgreSQL are NixOS', so that a scenario can name
them on either.
"""

import functools
import shutil
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent

# The host's Python, and where it finds Celery and what that needs.
PYTHON = "/usr/bin/python3"
PYTHON_PACKAGES = "/opt/imgsys-e2e/python"

# A value of the configuration file.
Value = str | int | bool | list[str]
Settings = dict[str, dict[str, Value]]

REDIS_PASSWORD = "of-the-test-network\n"
PASSWORD_FILE = "/etc/imgsys-e2e/redis-password"


@dataclass
class Node:
    """What a machine has beyond the host and the installation."""

    settings: Settings = field(default_factory=dict)
    units: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files["/etc/imgsys/imgsys.toml"] = toml(self.settings)


def toml(settings: Settings) -> str:
    """The text of a configuration file."""
    sections = []
    for section, keys in settings.items():
        lines = [f"{key} = {literal(value)}" for key, value in keys.items()]
        sections.append("\n".join([f"[{section}]", *lines, ""]))
    return "\n".join(sections)


def literal(value: Value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# Redis and PostgreSQL as NixOS runs them.


def redis_files(network: bool) -> dict[str, str]:
    """A Redis that keeps what it is told, over a socket or the network."""
    listen = (
        f"bind 0.0.0.0\nport 6379\nrequirepass {REDIS_PASSWORD}"
        if network
        else "port 0\nunixsocket /run/redis-imgsys/redis.sock\nunixsocketperm 660\n"
    )
    keep = 'appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\n'
    keep += "auto-aof-rewrite-min-size 256mb\nrdbcompression no\n"
    place = "dir /var/lib/redis-imgsys\nsupervised systemd\n"
    return {
        "/etc/imgsys-e2e/redis.conf": listen + keep + place,
        "/etc/systemd/system/redis-imgsys.service": (HERE / "debian/redis-imgsys.service").read_text(),
    }


@functools.cache
def postgresql_programs() -> str:
    """Where the newest PostgreSQL of the host is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("this host has no PostgreSQL")
    return str(found[-1])


def postgresql_files(network: bool) -> dict[str, str]:
    """A PostgreSQL with the database of imgsys."""
    access = "local all postgres peer\nlocal imgsys imgsys peer\n"
    if network:
        access += "host imgsys imgsys 192.168.1.0/24 trust\n"
    files = {
        "/etc/imgsys-e2e/postgresql.conf": (
            "hba_file = '/etc/imgsys-e2e/pg_hba.conf'\n"
            "unix_socket_directories = '/run/postgresql'\n"
            f"listen_addresses = '{'*' if network else ''}'\n"
        ),
        "/etc/imgsys-e2e/pg_hba.conf": access,
    }
    for unit in ("postgresql.service", "postgresql-setup.service", "postgresql.target"):
        text = (HERE / "debian" / unit).read_text()
        files[f"/etc/systemd/system/{unit}"] = text.replace("@programs@", postgresql_programs())
    return files


# Programs of imgsys.

REDIS: Settings = {"redis": {"url": "redis://redis:6379/0"}}
DATABASE: Settings = {"database": {"url": "host=postgres user=imgsys dbname=imgsys"}}
SERVER: Settings = {
    "server": {
        "listen": "0.0.0.0:7450",
        "http_listen": "0.0.0.0:7451",
        "image_url": "http://server:7451/images/",
        "sweep_interval": "1s",
    },
    "auth": {"insecure": True},
}
# Slow and with a short lease, so that a cut hits tasks that run, and they are soon taken over.
WORKER: Settings = {
    "worker": {
        "image_sources": ["http://server:7451/images/"],
        "threads": 2,
        "classifier": "simulated",
        "delay": "50ms",
        "lease": "5s",
    }
}
SECURE: Settings = {
    "server": {
        "listen": "0.0.0.0:7450",
        "http_listen": "0.0.0.0:7451",
        "image_url": "https://secure:7451/images/",
        "sweep_interval": "1s",
    },
}
REMOTE: Settings = {
    "worker": {
        "image_sources": ["https://secure:7451/images/"],
        "threads": 2,
        "classifier": "simulated",
    }
}
PERSISTER: Settings = {"persister": {"claim_after": "5s"}}

# What `services.imgsys.enable = true` makes of them.
SINGLE: Settings = {
    "redis": {"url": "unix:///run/redis-imgsys/redis.sock"},
    "database": {"url": "host=/run/postgresql user=imgsys dbname=imgsys"},
}


def credentials(program: str, files: dict[str, tuple[str, str]], *more: str) -> dict[str, str]:
    """Secrets that are handed to a program as credentials: the variable and the file of each."""
    lines = ["[Service]"]
    for name, (variable, file) in files.items():
        lines += [f"LoadCredential=imgsys.{name}:{file}", f"Environment={variable}=%d/imgsys.{name}"]
    text = "\n".join([*lines, *more, ""])
    return {f"/etc/systemd/system/imgsys-{program}.service.d/secrets.conf": text}


REDIS_CREDENTIAL = {"redis-password": ("IMGSYS_REDIS_PASSWORD_FILE", PASSWORD_FILE)}


def secret(program: str) -> dict[str, str]:
    """The password for Redis."""
    return {PASSWORD_FILE: REDIS_PASSWORD} | credentials(program, REDIS_CREDENTIAL)


def socket_access(program: str) -> dict[str, str]:
    """Membership in the group that may use the socket of Redis."""
    drop_in = f"/etc/systemd/system/imgsys-{program}.service.d/redis.conf"
    return {drop_in: "[Unit]\nAfter=redis-imgsys.service\n\n[Service]\nSupplementaryGroups=redis\n"}


def worker() -> Node:
    """Analyses images of the server."""
    return Node(REDIS | WORKER, ["imgsys-worker.service"], secret("worker"))


def secure() -> Node:
    """A server with TLS and tokens, to be started once they are there."""
    files = REDIS_CREDENTIAL | {
        "tokens": ("IMGSYS_AUTH_TOKENS_FILE", "/root/secrets/tokens.toml"),
        "tls-certificate": ("IMGSYS_SERVER_TLS_CERTIFICATE", "/root/secrets/server.pem"),
        "tls-key": ("IMGSYS_SERVER_TLS_KEY", "/root/secrets/server.key"),
    }
    drop_in = credentials("server", files, "Environment=IMGSYS_SERVER_TLS_HTTP=true")
    return Node(SECURE | REDIS | DATABASE, [], {PASSWORD_FILE: REDIS_PASSWORD} | drop_in)


def remote() -> Node:
    """A worker that fetches images over https, to be started once its token is there."""
    token = ("IMGSYS_WORKER_IMAGES_TOKEN_FILE", "/root/secrets/worker-token")
    ca = "Environment=IMGSYS_WORKER_IMAGES_CA=/var/lib/imgsys-e2e/ca.pem"
    drop_in = credentials("worker", REDIS_CREDENTIAL | {"worker-token": token}, ca)
    return Node(REDIS | REMOTE, [], {PASSWORD_FILE: REDIS_PASSWORD} | drop_in)


def single() -> Node:
    """All in one."""
    programs = ("server", "persister", "worker")
    access = {path: text for program in programs for path, text in socket_access(program).items()}
    units = ["redis-imgsys.service", "postgresql.target", *(f"imgsys-{it}.service" for it in programs)]
    return Node(SINGLE, units, redis_files(network=False) | postgresql_files(network=False) | access)


def python_worker() -> Node:
    """Analyses images of the server with examples/python-worker."""
    lines = [
        "[Unit]",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "DynamicUser=yes",
        "Restart=always",
        "RestartSec=1s",
        f"Environment=PYTHONPATH={PYTHON_PACKAGES}:/etc/imgsys-e2e/python-worker",
        f"Environment=IMGSYS_REDIS_URL=redis://:{REDIS_PASSWORD.strip()}@redis:6379/0",
        "Environment=IMGSYS_IMAGE_SOURCES=http://server:7451/images/",
        "Environment=IMGSYS_LEASE=5",
        "Environment=IMGSYS_DELAY=0.05",
        f"ExecStart={PYTHON} -m celery -A worker worker -Q imgsys --concurrency 2 --loglevel info",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    unit = "python-worker.service"
    return Node(units=[unit], files={f"/etc/systemd/system/{unit}": "\n".join(lines)})


def furnish_stage(stage: Path, python: Path | None) -> None:
    """Adds to the installation what scenarios find on every machine, and the packages of a Python
    environment, if there is one."""
    for part in ("samples", "sql"):
        shutil.copytree(CHECKOUT / part, stage / "etc/imgsys-e2e" / part)
    if python is not None:
        (packages,) = python.glob("lib/python3.*/site-packages")
        shutil.copytree(packages, stage / PYTHON_PACKAGES.lstrip("/"))
        shutil.copytree(CHECKOUT / "examples/python-worker", stage / "etc/imgsys-e2e/python-worker")


def describe(name: str) -> Node:
    """The machine with this name."""
    match name:
        case "redis":
            node = Node(units=["redis-imgsys.service"], files=redis_files(network=True))
        case "postgres":
            node = Node(units=["postgresql.target"], files=postgresql_files(network=True))
        case "server":
            node = Node(SERVER | REDIS | DATABASE, ["imgsys-server.service"], secret("server"))
        case "persister":
            node = Node(PERSISTER | REDIS | DATABASE, ["imgsys-persister.service"], secret("persister"))
        case "worker1" | "worker2" | "worker3":
            node = worker()
        case "secure":
            node = secure()
        case "remote":
            node = remote()
        case "python":
            node = python_worker()
        case "client":
            node = Node()
        case "single":
            node = single()
        case _:
            raise ValueError(f"nodes.py does not say what {name} is")
    return node
