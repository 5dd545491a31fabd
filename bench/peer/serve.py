"""Keeps the peer up for a benchmark: `run serve`. Says in JSON where it is and which its processes are,
then does what standard input asks for, a line each, until that ends.

rows    prints how many rows there are
reset   forgets all images, rows and files
"""

import json
import os
import sys

import psycopg

from stack import Stack


def main():
    options = {"acks_late": False, "fsync": "--fsync" in sys.argv, "pause": 0, "sockets": True}
    with Stack(**options) as stack, psycopg.connect(stack.dsn(), autocommit=True) as database:
        pids = {name: process.pid for name, process in stack.processes.items()}
        say({"address": f"127.0.0.1:{stack.ports['server']}", "pids": pids})
        for line in sys.stdin:
            if line == "rows\n":
                say(database.execute("SELECT count(*) FROM images").fetchone()[0])
            elif line == "reset\n":
                database.execute("TRUNCATE images")
                remove(os.path.join(stack.dir, "images"))
                say(True)
            else:
                sys.exit(f"serve.py: {line!r}?")


def say(what):
    print(json.dumps(what), flush=True)


def remove(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            os.unlink(os.path.join(place, name))


if __name__ == "__main__":
    main()
