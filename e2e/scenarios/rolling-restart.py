# machines: redis postgres server persister worker1 worker2 client
"""Every service is restarted, one after the other, under load: nobody is told of an error."""

BATCH = 400

start_all()
server.wait_for_unit("imgsys-server.service")
postgres.wait_for_unit("postgresql.target")
wait_for_history(postgres, 0)

images(client, "/root/load", BATCH)
send_in_background(client, "/root/load")
client.wait_until_succeeds("test $(wc -l < /root/load.answers) -ge 10")

for machine, unit in (
    (worker1, "imgsys-worker.service"),
    (worker2, "imgsys-worker.service"),
    (server, "imgsys-server.service"),
    (persister, "imgsys-persister.service"),
    (redis, "redis-imgsys.service"),
    (postgres, "postgresql.service"),
):
    with subtest(f"{unit} of {machine.name}"):
        machine.succeed(f"systemctl restart {unit}")
        machine.wait_for_unit(unit)
        t.assertEqual(machine.get_unit_property(unit, "Result"), "success")

with subtest("every image has its answer and its row"):
    told = answers(client, "/root/load", BATCH)
    t.assertEqual({answer["state"] for answer in told}, {"done"})
    wait_for_history(postgres, BATCH)
