# machines: redis postgres server persister worker1 worker2 client
"""Every part on a machine of its own."""

start_all()
server.wait_for_unit("imgsys-server.service")
persister.wait_for_unit("imgsys-persister.service")
for worker in (worker1, worker2):
    worker.wait_for_unit("imgsys-worker.service")

with subtest("an image is uploaded and its sender told what is in it"):
    cat = imgsys(client, "send /etc/imgsys-e2e/samples/cat.jpg")[0]
    t.assertEqual(cat["state"], "done")
    t.assertGreater(cat["confidence"], 0)

with subtest("the same image again is not sent again, but is another job"):
    again = imgsys(client, "send /etc/imgsys-e2e/samples/cat.jpg")[0]
    t.assertTrue(again["duplicate"])
    t.assertEqual(again["label"], cat["label"])
    t.assertNotEqual(again["job"], cat["job"])

with subtest("the history has what the sender was told"):
    wait_for_history(postgres, 2)
    shown = imgsys(client, f"show {cat['job']}")[0]
    for key in ("job", "label", "confidence", "sha256", "size"):
        t.assertEqual(shown[key], cat[key], key)

with subtest("200 images get 200 answers, each once, from both workers"):
    images(client, "/root/many", 200)
    told = imgsys(client, "send --quiet /root/many")
    t.assertEqual(len({answer["job"] for answer in told}), 200)
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    wait_for_history(postgres, 202)
    t.assertEqual(sql(postgres, "SELECT count(DISTINCT worker) FROM predictions"), "2")

with subtest("what is no image is told as such, and does not disturb the rest"):
    client.succeed("mkdir /root/mixed && echo no image >/root/mixed/text.jpg")
    client.succeed("cp /etc/imgsys-e2e/samples/rocket.jpg /root/mixed/")
    status, _ = client.execute("imgsys --server server send --json /root/mixed >/root/mixed.json")
    t.assertEqual(status, 1)
    mixed = [json.loads(line) for line in client.succeed("cat /root/mixed.json").splitlines()]
    t.assertEqual(sorted(answer["state"] for answer in mixed), ["done", "failed"])

with subtest("Redis is not open to who has no password"):
    client.succeed("exec 3<>/dev/tcp/redis/6379; printf 'PING\\r\\n' >&3; head -n 1 <&3 | grep -q NOAUTH")
