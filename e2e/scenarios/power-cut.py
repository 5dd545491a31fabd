# machines: redis postgres server persister worker1 worker2 client
"""Each machine in turn loses its power while images are on their way: nothing that was accepted is
lost, and nothing is counted twice."""

BATCH = 100

start_all()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
wait_for_history(postgres, 0)
sent = 0

for victim in (worker1, persister, redis, postgres, server):
    with subtest(f"{victim.name} loses its power"):
        directory = f"/root/{victim.name}"
        images(client, directory, BATCH)
        send_in_background(client, directory)
        client.wait_until_succeeds(f"test $(wc -l < {directory}.answers) -ge {BATCH // 5}")
        victim.crash()
        victim.start()
        told = answers(client, directory, BATCH)
        t.assertEqual({answer["state"] for answer in told}, {"done"})
        sent += BATCH
        wait_for_history(postgres, sent)

with subtest("the client loses its power: what was accepted goes on"):
    images(client, "/root/client", BATCH)
    send_in_background(client, "/root/client")
    client.wait_until_succeeds(f"test $(wc -l < /root/client.answers) -ge {BATCH // 5}")
    client.crash()
    client.start()
    # Of the images that came in whole, the server has said so to nobody; asked again, it knows them.
    told = imgsys(client, "send --quiet /root/client")
    t.assertEqual(len(told), BATCH)
    known = sum(answer.get("duplicate", False) for answer in told)
    t.assertGreaterEqual(known, BATCH // 5)
    wait_for_history(postgres, sent + BATCH + known)
