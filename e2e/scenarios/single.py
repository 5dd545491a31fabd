# machines: single
"""All of imgsys on one machine, as `services.imgsys.enable = true` sets it up."""

start_all()
for unit in ("imgsys-server", "imgsys-persister", "imgsys-worker", "imgsys-migrate"):
    single.wait_for_unit(f"{unit}.service")

with subtest("images are sent, analysed and in the history"):
    told = imgsys(single, "send /etc/imgsys-e2e/samples", server="127.0.0.1")
    t.assertEqual(len(told), 5)
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    wait_for_history(single, 5)
    listed = imgsys(single, "history", server="127.0.0.1")
    t.assertEqual({job["job"] for job in listed}, {answer["job"] for answer in told})

with subtest("an image comes back as it was sent"):
    job = next(answer["job"] for answer in told if answer["name"].endswith("cat.jpg"))
    single.succeed(f"imgsys get {job} -o /root/cat.jpg")
    single.succeed("cmp /root/cat.jpg /etc/imgsys-e2e/samples/cat.jpg")

with subtest("nobody else reads images, spool or database"):
    single.fail("runuser -u nobody -- ls /var/lib/imgsys")
    single.fail("runuser -u nobody -- psql -d imgsys -U imgsys -c 'SELECT 1'")
    single.fail("runuser -u nobody -- test -w /run/redis-imgsys/redis.sock")

with subtest("what analyses strangers' images has neither privileges nor the database"):
    worker = single.get_unit_property("imgsys-worker.service", "MainPID")
    single.fail(f"grep -q '^CapEff:.*[1-9a-f]' /proc/{worker}/status")
    single.succeed(f"grep -q '^NoNewPrivs:.*1' /proc/{worker}/status")
    user = single.succeed(f"stat -c %u /proc/{worker}").strip()
    single.fail(f"setpriv --reuid {user} --clear-groups psql -d imgsys -U imgsys -c 'SELECT 1'")
    single.fail(f"nsenter -t {worker} -m touch /var/lib/imgsys/images/new")

with subtest("services are kept alive: their watchdogs are set, and a killed one is back"):
    for unit in ("imgsys-server", "imgsys-persister", "imgsys-worker"):
        t.assertEqual(single.get_unit_property(f"{unit}.service", "WatchdogUSec"), "30s")
        single.succeed(f"systemctl kill --signal=KILL {unit}.service")
        single.wait_until_succeeds(f"test $(systemctl show -P NRestarts {unit}.service) -ge 1")
        single.wait_for_unit(f"{unit}.service")
    single.succeed(
        "mkdir /root/photos && cp /etc/imgsys-e2e/samples/cat.jpg /root/photos && echo >>/root/photos/cat.jpg"
    )
    t.assertEqual(imgsys(single, "send /root/photos", server="127.0.0.1")[0]["state"], "done")

with subtest("all is there again after the machine was turned off and on"):
    single.shutdown()
    single.start()
    single.wait_for_unit("imgsys-server.service")
    t.assertEqual(len(imgsys(single, "history", server="127.0.0.1")), 6)
    t.assertEqual(imgsys(single, "send /etc/imgsys-e2e/samples", server="127.0.0.1")[0]["duplicate"], True)
    wait_for_history(single, 11)
