# machines: redis postgres server persister worker1 worker2 client
"""PostgreSQL is away: images are accepted, analysed and answered, and the history has them later."""

BATCH = 200

start_all()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
wait_for_history(postgres, 0)

with subtest("all is answered while PostgreSQL is away"):
    postgres.succeed("systemctl stop postgresql.service")
    images(client, "/root/away", BATCH)
    told = imgsys(client, "send --quiet /root/away")
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    persister.require_unit_state("imgsys-persister.service")

with subtest("what was answered meanwhile is in the history once it is back"):
    postgres.succeed("systemctl start postgresql.target")
    wait_for_history(postgres, BATCH)
    listed = imgsys(client, f"history --limit {BATCH}")
    t.assertEqual({job["job"] for job in listed}, {answer["job"] for answer in told})

with subtest("it goes away while results come in"):
    images(client, "/root/leaving", BATCH)
    send_in_background(client, "/root/leaving")
    client.wait_until_succeeds(f"test $(wc -l < /root/leaving.answers) -ge {BATCH // 10}")
    postgres.succeed("systemctl kill --signal=KILL postgresql.service; systemctl stop postgresql.service")
    answers(client, "/root/leaving", BATCH)
    postgres.succeed("systemctl start postgresql.target")
    wait_for_history(postgres, 2 * BATCH)

with subtest("server and persister start without it"):
    postgres.succeed("systemctl stop postgresql.service")
    server.succeed("systemctl restart imgsys-server.service")
    persister.succeed("systemctl restart imgsys-persister.service")
    images(client, "/root/without", 10)
    told = imgsys(client, "send --quiet /root/without")
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    postgres.succeed("systemctl start postgresql.target")
    wait_for_history(postgres, 2 * BATCH + 10)
