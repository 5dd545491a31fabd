# What all scenarios have in common; it is put before each of them.

import json
import shlex


def images(machine, directory, count):
    """Makes images that differ in their bytes, if not to the eye, and are there after a crash."""
    sample = "/etc/imgsys-e2e/samples/cat.jpg"
    machine.succeed(
        f"mkdir -p {directory}; cd {directory};"
        f" for i in $(seq {count}); do (cat {sample}; echo {directory} $i) >$i.jpg; done; sync -f ."
    )


def imgsys(machine, command, server="server"):
    """What a command of the client says, a JSON object a line."""
    said = machine.succeed(f"imgsys --server {server} {command} --json", timeout=120)
    return [json.loads(line) for line in said.splitlines()]


def send_in_background(machine, directory, server="server"):
    """Sends images; `answers` waits for what comes of it."""
    unit = f"send{directory.replace('/', '-')}"
    send = f"$(command -v imgsys) --server {server} send --json --quiet {directory}"
    machine.succeed(f'systemd-run --quiet --unit={unit} sh -c "exec {send} > {directory}.answers"')


def answers(machine, directory, count):
    """The answers to `send_in_background`, once all are there."""
    machine.wait_until_succeeds(f"test $(wc -l < {directory}.answers) -eq {count}", timeout=120)
    return [json.loads(line) for line in machine.succeed(f"cat {directory}.answers").splitlines()]


def sql(machine, query):
    """What a query says."""
    return machine.succeed(f"runuser -u postgres -- psql -d imgsys -tAc {shlex.quote(query)}").strip()


def wait_for_history(machine, count):
    """Waits until the history has this many jobs, all done, and checks that each is in it once."""
    done = "SELECT count(*) FROM jobs WHERE state = 'done'"
    query = f"runuser -u postgres -- psql -d imgsys -tAc {shlex.quote(done)}"
    machine.wait_until_succeeds(f'test "$({query})" -ge {count}', timeout=120)
    t.assertEqual(sql(machine, "SELECT count(*), count(DISTINCT id) FROM jobs"), f"{count}|{count}")
    t.assertEqual(
        sql(machine, "SELECT count(*) FROM predictions WHERE state = 'done' AND run = 0"), str(count)
    )
    t.assertEqual(sql(machine, "SELECT count(*) FROM predictions"), str(count))
