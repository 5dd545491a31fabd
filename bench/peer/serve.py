"""Keeps the peer up for a benchmark: `run serve`. Says in JSON where it is and which its processes are,
then prints how many rows there are for each line `rows` on standard input, until that ends.
"""

import json
import sys

import psycopg

from stack import Stack


def main():
    options = {"acks_late": False, "fsync": "--fsync" in sys.argv, "pause": 0, "sockets": True}
    with Stack(**options) as stack, psycopg.connect(stack.dsn(), autocommit=True) as database:
        pids = {name: process.pid for name, process in stack.processes.items()}
        say({"address": f"127.0.0.1:{stack.ports['server']}", "pids": pids})
        for line in sys.stdin:
            if line != "rows\n":
                sys.exit(f"serve.py: {line!r}?")
            say(database.execute("SELECT count(*) FROM images").fetchone()[0])


def say(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
