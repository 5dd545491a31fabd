# machines: redis postgres server persister worker1 worker2 client
"""Redis loses all that it had; every accepted image still ends in the history."""

BATCH = 200

start_all()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
wait_for_history(postgres, 0)


def lose_redis():
    """Redis ends, and begins with nothing."""
    redis.succeed("systemctl kill --signal=KILL redis-imgsys.service; systemctl stop redis-imgsys.service")
    redis.succeed("rm -rf /var/lib/redis-imgsys/*")
    redis.succeed("systemctl start redis-imgsys.service")


with subtest("Redis is wiped while tasks run"):
    images(client, "/root/running", BATCH)
    send_in_background(client, "/root/running")
    client.wait_until_succeeds(f"test $(wc -l < /root/running.answers) -ge {BATCH // 10}")
    lose_redis()
    told = answers(client, "/root/running", BATCH)
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    wait_for_history(postgres, BATCH)

with subtest("Redis is wiped while results wait to be written: the rows equal the answers"):
    persister.succeed("systemctl stop imgsys-persister.service")
    images(client, "/root/unwritten", BATCH)
    told = imgsys(client, "send --quiet /root/unwritten")
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    lose_redis()
    persister.succeed("systemctl start imgsys-persister.service")
    wait_for_history(postgres, 2 * BATCH)
    rows = sql(postgres, "SELECT id, label, confidence FROM jobs").splitlines()
    written = {job: (label, float(confidence)) for job, label, confidence in (row.split("|") for row in rows)}
    for answer in told:
        t.assertEqual(written[answer["job"]], (answer["label"], answer["confidence"]))

with subtest("images are accepted while Redis is away, and analysed once it is back"):
    redis.succeed("systemctl stop redis-imgsys.service")
    images(client, "/root/waiting", BATCH)
    client.succeed("imgsys --server server send --quiet --no-wait /root/waiting")
    redis.succeed("rm -rf /var/lib/redis-imgsys/*; systemctl start redis-imgsys.service")
    wait_for_history(postgres, 3 * BATCH)
