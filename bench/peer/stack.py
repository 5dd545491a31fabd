"""The peer on private ports in a private directory; every process is stopped by its own pid."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import psutil
import psycopg
import redis

HERE = os.path.dirname(os.path.abspath(__file__))
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
# After so many seconds a task that a worker has not ended goes to another.
VISIBILITY = 5


def postgres_bin():
    newest = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return os.path.dirname(newest[-1]) if newest else os.path.dirname(shutil.which("initdb"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, is_so, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except (OSError, redis.RedisError, psycopg.Error):
            pass
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


class Stack:
    """`pause` is how long an analysis takes; with `sockets` Redis and PostgreSQL are reached over
    sockets in the directory rather than over TCP."""

    def __init__(self, acks_late=True, fsync=True, pause=0.005, sockets=False):
        self.fsync = fsync
        self.dir = tempfile.mkdtemp(prefix="imgsys-peer-")
        os.chmod(self.dir, 0o755)
        self.ports = {name: free_port() for name in ("redis", "postgres", "server")}
        self.processes = {}
        port = self.ports["postgres"]
        if sockets:
            broker = f"unix://{self.dir}/redis/redis.sock"
            folder = f"{self.dir}/postgres"
            database = f"postgresql+psycopg://postgres@/images?host={folder}&port={port}"
        else:
            broker = f"redis://127.0.0.1:{self.ports['redis']}/0"
            database = f"postgresql+psycopg://postgres@127.0.0.1:{port}/images"
        self.env = dict(
            os.environ,
            REDIS_URL=broker,
            DATABASE_URL=database,
            ACKS_LATE="1" if acks_late else "0",
            SIM_SLEEP=str(pause),
            VISIBILITY=str(VISIBILITY),
            PYTHONPATH=HERE,
        )
        try:
            self.make_database()
            self.start_redis()
            self.start_postgres()
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as c:
                c.execute("CREATE DATABASE images")
            self.start_server()
            self.start_worker()
        except BaseException:
            self.stop()
            raise

    def start(self, name, command, folder=None):
        with open(os.path.join(self.dir, name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=folder or self.dir,
                start_new_session=True,
            )

    def make_database(self):
        self.cluster = os.path.join(self.dir, "postgres")
        os.mkdir(self.cluster, 0o700)
        shutil.chown(self.cluster, "postgres", "postgres")
        initdb = [f"{postgres_bin()}/initdb", "-D", self.cluster, "-U", "postgres", "-A", "trust"]
        options = ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(
            AS_POSTGRES + initdb + options, check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    def start_redis(self):
        folder = os.path.join(self.dir, "redis")
        os.makedirs(folder, exist_ok=True)
        port = str(self.ports["redis"])
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder]
        command += ["--unixsocket", os.path.join(folder, "redis.sock")]
        self.start("redis", command + ["--appendonly", "yes", "--save", ""])
        until("Redis", lambda: self.redis().ping())

    def start_postgres(self):
        port = str(self.ports["postgres"])
        command = [f"{postgres_bin()}/postgres", "-D", self.cluster, "-p", port]
        self.start(
            "postgres", AS_POSTGRES + command + ["-h", "127.0.0.1", "-k", self.cluster], "/"
        )
        until("PostgreSQL", lambda: psycopg.connect(self.dsn("postgres")).close() or True)

    def start_worker(self):
        celery = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--pool", "prefork"]
        self.start("worker", celery + ["-c", "2", "--without-gossip", "--without-mingle"])
        time.sleep(2)

    def start_server(self):
        images = os.path.join(self.dir, "images")
        port = str(self.ports["server"])
        command = [sys.executable, os.path.join(HERE, "server.py")]
        command += ["--port", port, "--images", images]
        self.start("server", command + (["--fsync"] if self.fsync else []))
        address = ("127.0.0.1", self.ports["server"])
        until("the server", lambda: socket.create_connection(address, 1).close() or True)

    def dsn(self, database="images"):
        return f"host=127.0.0.1 port={self.ports['postgres']} user=postgres dbname={database}"

    def redis(self):
        return redis.Redis(port=self.ports["redis"])

    def rows(self):
        with psycopg.connect(self.dsn(), connect_timeout=3) as c:
            return c.execute("SELECT count(*) FROM images").fetchone()[0]

    def files(self):
        return sum(
            not name.endswith(".part")
            for _, _, names in os.walk(os.path.join(self.dir, "images"))
            for name in names
        )

    def children(self, name):
        try:
            return psutil.Process(self.processes[name].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def end(self, name, how, patience=20):
        """Ends a part and, if it is killed, those that it has started."""
        process = self.processes.get(name)
        if process is None:
            return
        below = self.children(name)
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if name == "postgres" and how == signal.SIGINT:
            return
        for child in below:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                pass

    def stop(self):
        for name in ("server", "worker"):
            self.end(name, signal.SIGKILL)
        self.end("postgres", signal.SIGINT)
        self.end("redis", signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
