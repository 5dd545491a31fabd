# machines: redis postgres server persister worker1 worker2 worker3 client
"""Workers join and the work gets done faster; one leaves and nothing is lost."""

import time

BATCH = 200


def seconds_for(directory):
    """How long a batch takes."""
    images(client, directory, BATCH)
    begin = time.monotonic()
    told = imgsys(client, f"send --quiet {directory}")
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    return time.monotonic() - begin


for machine in (redis, postgres, server, persister, worker1, client):
    machine.start()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
worker1.wait_for_unit("imgsys-worker.service")

with subtest("one worker"):
    alone = seconds_for("/root/one")

with subtest("two more join, and it is done in less than half the time"):
    for machine in (worker2, worker3):
        machine.start()
    for machine in (worker2, worker3):
        machine.wait_for_unit("imgsys-worker.service")
    together = seconds_for("/root/three")
    client.log(f"{alone:.1f} s with one worker, {together:.1f} s with three")
    t.assertLess(together, alone / 2)

with subtest("one leaves in the midst, and gives back what it has not begun"):
    images(client, "/root/leaving", BATCH)
    send_in_background(client, "/root/leaving")
    client.wait_until_succeeds(f"test $(wc -l < /root/leaving.answers) -ge {BATCH // 10}")
    worker3.shutdown()
    told = answers(client, "/root/leaving", BATCH)
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    wait_for_history(postgres, 3 * BATCH)
    t.assertEqual(sql(postgres, "SELECT max(attempts) FROM predictions"), "1")
