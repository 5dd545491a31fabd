# machines: redis postgres server persister worker1 python client
"""A worker in Python beside one of ours: both analyse, and either takes over what the other leaves."""

BATCH = 60


def analyzers(told):
    """Who has analysed these, and that all were."""
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    t.assertEqual(len({answer["job"] for answer in told}), BATCH)
    return {answer["analyzer"]["name"] for answer in told}


def begun(directory):
    """Sends a batch, and waits until some of it is done."""
    images(client, directory, BATCH)
    send_in_background(client, directory)
    client.wait_until_succeeds(f"test $(wc -l < {directory}.answers) -ge {BATCH // 6}", timeout=60)


start_all()
# What Kombu had taken off the queue, and not noted yet, when its worker died is known to the server
# alone: it is not to wait for an hour.
server.succeed(
    "mkdir -p /run/systemd/system/imgsys-server.service.d",
    "printf '[Service]\\nEnvironment=IMGSYS_SERVER_OVERDUE=10s\\n'"
    " >/run/systemd/system/imgsys-server.service.d/overdue.conf",
    "systemctl daemon-reload",
    "systemctl restart imgsys-server",
)
server.wait_for_unit("imgsys-server.service")
persister.wait_for_unit("imgsys-persister.service")
worker1.wait_for_unit("imgsys-worker.service")
python.wait_for_unit("python-worker.service")
python.wait_until_succeeds("journalctl -b -u python-worker | grep -q 'celery@.* ready'", timeout=60)

with subtest("both analyse, and the history says who"):
    images(client, "/root/both", BATCH)
    told = imgsys(client, "send --quiet /root/both")
    t.assertEqual(analyzers(told), {"colour", "simulated"})
    wait_for_history(postgres, BATCH)
    shown = sql(postgres, "SELECT analyzer, count(*) FROM predictions GROUP BY 1 ORDER BY 1").splitlines()
    t.assertEqual([line.split("|")[0] for line in shown], ["colour", "simulated"])

with subtest("the one in Python loses its power, and ours does what it leaves"):
    begun("/root/ours")
    python.crash()
    t.assertIn("simulated", analyzers(answers(client, "/root/ours", BATCH)))

with subtest("ours loses its power, and the one in Python does what it leaves"):
    python.start()
    python.wait_for_unit("python-worker.service")
    python.wait_until_succeeds("journalctl -b -u python-worker | grep -q 'celery@.* ready'", timeout=60)
    begun("/root/theirs")
    worker1.crash()
    t.assertIn("colour", analyzers(answers(client, "/root/theirs", BATCH)))

with subtest("each image is in the history once"):
    wait_for_history(postgres, 3 * BATCH)
