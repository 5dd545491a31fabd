"""However one gets to Redis: our workers and a Python program meet there."""

import subprocess
from pathlib import Path

import redis as library
from runner.cases import case
from runner.place import Place
from runner.redis import Redis, free_port
from runner.wait import equal, until


def meet(place: Place, redis: Redis) -> None:
    """A worker of ours does what a Python program sends, and answers to remote control."""
    worker = place.worker(redis)
    app = place.app(redis)
    sent = app.send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    got = sent.get(timeout=20)
    equal("analyzer", got["outcome"]["done"]["analyzer"]["name"], "simulated")
    name = worker.name
    pong = until("it answers", lambda: app.control.ping(destination=[name], timeout=0.5))
    equal("pong", pong, [{name: {"ok": "pong"}}])
    until("nothing is held any more", lambda: redis.held() == 0)


@case
def unix_socket_and_database(place: Place) -> None:
    """A unix socket, and a database that is not 0."""
    redis = place.redis(database=3)
    meet(place, redis)
    other = library.Redis(unix_socket_path=str(redis.socket), db=0)
    equal("keys in database 0", other.keys("*"), [])


@case
def tcp_and_database(place: Place) -> None:
    """redis://HOST:PORT/5."""
    port = free_port()
    redis = place.redis(database=5, arguments=["--port", str(port)])
    redis.url = redis.celery_url = f"redis://127.0.0.1:{port}/5"
    meet(place, redis)


@case
def password(place: Place) -> None:
    """requirepass: the password in the URL, and in a file."""
    port = free_port()
    secret = "it's/a@secret"
    redis = place.redis(arguments=["--port", str(port), "--requirepass", secret])
    redis.client = library.Redis(
        unix_socket_path=str(redis.socket), password=secret, decode_responses=True
    )
    redis.celery_url = f"redis://:it%27s%2Fa%40secret@127.0.0.1:{port}/0"
    redis.url = redis.celery_url
    meet(place, redis)
    file = place.directory / "password"
    file.write_text(secret + "\n")
    redis.url = f"redis://127.0.0.1:{port}/0"
    redis.env["IMGSYS_REDIS_PASSWORD_FILE"] = str(file)
    sent = place.app(redis).send_task("imgsys.analyze", kwargs=place.image(), queue="imgsys")
    place.worker(redis)
    sent.get(timeout=20)


@case
def acl_user(place: Place) -> None:
    """A user of Redis' ACL who may not do everything."""
    port = free_port()
    redis = place.redis(arguments=["--port", str(port)])
    rules = ["on", ">pass", "~*", "&*", "+@all", "-@dangerous", "+info", "+client|kill"]
    redis.client.execute_command("ACL", "SETUSER", "imgsys", "reset", *rules)
    redis.client.execute_command("ACL", "SETUSER", "default", "off")
    redis.client = library.Redis(
        unix_socket_path=str(redis.socket),
        username="imgsys",
        password="pass",
        decode_responses=True,
    )
    redis.url = redis.celery_url = f"redis://imgsys:pass@127.0.0.1:{port}/0"
    meet(place, redis)


@case
def tls(place: Place) -> None:
    """rediss://, with a certificate of one's own."""
    port = free_port()
    authority, certificate, key = certificates(place.directory)
    arguments = ["--tls-port", str(port), "--tls-cert-file", str(certificate)]
    arguments += ["--tls-key-file", str(key), "--tls-auth-clients", "no"]
    redis = place.redis(arguments=arguments)
    redis.url = f"rediss://localhost:{port}/0?ca={authority}"
    redis.celery_url = (
        f"rediss://localhost:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"
    )
    meet(place, redis)


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, and one that it has made for localhost, with its key."""

    def openssl(name: str, subject: str, *words: str) -> tuple[Path, Path]:
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        request += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject, *words]
        request += ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(request, check=True, capture_output=True)
        return key, certificate

    authority_key, authority = openssl("authority", "/CN=authority")
    of_authority = ["-CA", str(authority), "-CAkey", str(authority_key)]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    end = ["-addext", "basicConstraints=critical,CA:FALSE"]
    key, certificate = openssl("localhost", "/CN=localhost", *of_authority, *names, *end)
    return authority, certificate, key


@case
def key_prefix(place: Place) -> None:
    """Kombu's global_keyprefix: two systems share one database and don't meet."""
    redis = place.redis()
    redis.prefix = "site-a:"
    redis.url += "&key_prefix=site-a:"
    redis.settings = {
        "broker_transport_options": {"global_keyprefix": "site-a:"},
        "result_backend_transport_options": {"global_keyprefix": "site-a:"},
    }
    meet(place, redis)
    stray = [key for key in redis.client.keys("*") if not key.startswith("site-a:")]
    # Kombu's fanout bindings are in its own hands.
    equal("keys without the prefix", stray, [])
