# machines: redis postgres server persister worker1 worker2 client
"""Each machine in turn is cut off from the others for a while; all goes on once it is back."""

BATCH = 100

start_all()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
wait_for_history(postgres, 0)
sent = 0

for victim in (worker1, persister, redis, postgres, server, client):
    with subtest(f"{victim.name} is cut off"):
        directory = f"/root/{victim.name}"
        images(client, directory, BATCH)
        send_in_background(client, directory)
        client.wait_until_succeeds(f"test $(wc -l < {directory}.answers) -ge {BATCH // 5}")
        victim.block()
        victim.sleep(3)
        victim.unblock()
        told = answers(client, directory, BATCH)
        t.assertEqual({answer["state"] for answer in told}, {"done"})
        sent += BATCH
        wait_for_history(postgres, sent)

with subtest("a worker that stays away is done without"):
    worker1.block()
    images(client, "/root/without", BATCH)
    told = imgsys(client, "send --quiet /root/without")
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    sent += BATCH
    wait_for_history(postgres, sent)
    worker1.unblock()

with subtest("without the network images are refused by nobody, but sent by nobody either"):
    client.block()
    status, _ = client.execute(
        "imgsys --server server --connect-timeout 1s send /etc/imgsys-e2e/samples/cat.jpg"
    )
    t.assertEqual(status, 3)
    client.unblock()
    t.assertEqual(imgsys(client, "send /etc/imgsys-e2e/samples/cat.jpg")[0]["state"], "done")
    wait_for_history(postgres, sent + 1)
