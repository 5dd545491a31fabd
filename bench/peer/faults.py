"""Breaks the peer as imgsys-faults breaks imgsys: faults.py CASE prints what was lost."""

import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

from protocol import ERROR, HEADER, IMAGE, RESULT, read_frame
from stack import VISIBILITY, Stack, until

KILL, TERM = signal.SIGKILL, signal.SIGTERM
CLIENTS = 4
PACE = 0.025
# The longest that answers and rows are waited for once all is well again.
PATIENCE = 10


class Load:
    """Clients that send unlike images at a pace, and connect again when they are cut off."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.sent = self.answered = self.refused = 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self):
        while not self.stopped.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as sock:
                    sock.settimeout(None)
                    threading.Thread(target=self.hear, args=(sock,), daemon=True).start()
                    self.speak(sock)
            except OSError:
                time.sleep(0.05)

    def speak(self, sock):
        number = 0
        while not self.stopped.is_set():
            body = bitmap()
            meta = b'{"name":"image.bmp"}'
            sock.sendall(HEADER.pack(IMAGE, len(meta), len(body), number) + meta + body)
            with self.lock:
                self.sent += 1
            number += 1
            time.sleep(PACE)
        # Answers may still be on their way.
        self.wait(lambda: False)

    def hear(self, sock):
        try:
            with sock.makefile("rb") as frames:
                while True:
                    kind = read_frame(frames)[0]
                    with self.lock:
                        self.answered += kind == RESULT
                        self.refused += kind == ERROR
        except (OSError, EOFError, ValueError, struct.error):
            sock.close()

    def wait(self, is_enough):
        end = time.monotonic() + PATIENCE
        while not is_enough() and time.monotonic() < end:
            if self.answered + self.refused >= self.sent:
                return
            time.sleep(0.05)

    def await_answers(self, more):
        goal = self.answered + more
        until("answers", lambda: self.answered >= goal, PATIENCE)

    def finish(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def bitmap(side=58):
    pixels = bytearray(b"\x80" * (side * ((side * 3 + 3) // 4 * 4)))
    pixels[:8] = random.randbytes(8)
    sizes = struct.pack("<IIIIII", 54 + len(pixels), 0, 54, 40, side, side)
    rest = struct.pack("<HHIIIIII", 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + sizes + rest + bytes(pixels)


def worker(stack, load, how):
    stack.end("worker", how)
    time.sleep(1)
    stack.start_worker()
    time.sleep(VISIBILITY)


def child(stack, load, how):
    """One of the worker's two processes."""
    stack.children("worker")[0].send_signal(how)
    time.sleep(VISIBILITY)


def server_waiting(stack, load, how):
    stack.end("worker", TERM)
    time.sleep(1)
    stack.end("server", how)
    stack.start_server()
    stack.start_worker()


def server_sending(stack, load, how):
    stack.end("server", how)
    stack.start_server()


def saver(stack, load, how):
    """It takes rows from a queue in memory. Nobody starts it anew."""
    stack.children("server")[0].send_signal(how)
    time.sleep(2)


def redis_again(stack, load, how):
    stack.end("redis", how)
    stack.start_redis()


def redis_away(stack, load, _how):
    stack.end("redis", TERM)
    time.sleep(15)
    stack.start_redis()


def redis_wiped(stack, load, _how):
    stack.redis().flushall()


def pubsub_cut(stack, load, _how):
    for _ in range(5):
        load.await_answers(20)
        stack.redis().client_kill_filter(_type="pubsub")


def postgres_again(stack, load, how):
    stack.end("postgres", signal.SIGINT if how == TERM else how)
    time.sleep(1)
    stack.start_postgres()


def postgres_away(stack, load, _how):
    stack.end("postgres", signal.SIGINT)
    time.sleep(15)
    stack.start_postgres()


CASES = {
    "worker-kill9": (child, KILL),
    "workers-kill9": (worker, KILL),
    "workers-term": (worker, TERM),
    "server-waiting-kill9": (server_waiting, KILL),
    "server-waiting-term": (server_waiting, TERM),
    "server-sending-kill9": (server_sending, KILL),
    "server-sending-term": (server_sending, TERM),
    "persister-batch-kill9": (saver, KILL),
    "redis-kill9": (redis_again, KILL),
    "redis-term": (redis_again, TERM),
    "redis-wiped": (redis_wiped, None),
    "redis-away": (redis_away, None),
    "pubsub-cut": (pubsub_cut, None),
    "postgres-away": (postgres_away, None),
    "postgres-kill9": (postgres_again, KILL),
    "postgres-term": (postgres_again, TERM),
}


def run(name):
    act, how = CASES[name]
    with Stack() as stack:
        load = Load(stack.ports["server"])
        try:
            load.await_answers(40)
            act(stack, load, how)
            time.sleep(2)
        finally:
            load.finish()
        rows = settle(stack, load)
        taken = stack.files()
        return {
            "case": name,
            "sent": load.sent,
            "taken": taken,
            "answered": load.answered,
            "refused": load.refused,
            "rows": rows,
            "lost": max(0, taken - load.refused - rows),
        }


def settle(stack, load):
    """The rows, once there are as many as there should be or they grow no more."""
    end = time.monotonic() + PATIENCE
    rows = stack.rows()
    while rows < stack.files() - load.refused and time.monotonic() < end:
        time.sleep(0.2)
        rows = stack.rows()
    return rows


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("\n".join(CASES))
    else:
        print(json.dumps(run(sys.argv[1])), flush=True)
        # Threads that still listen are nothing to wait for.
        os._exit(0)
