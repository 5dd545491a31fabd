# machines: single
"""What docs/operations.md says about backup and restore, done on a machine that lost everything."""

single.wait_for_unit("imgsys-server.service")
single.wait_for_unit("imgsys-persister.service")
before = imgsys(single, "send /etc/imgsys-e2e/samples", server="127.0.0.1")
wait_for_history(single, 5)

with subtest("a backup, with images that nobody has analysed yet"):
    single.succeed("systemctl stop imgsys-worker.service")
    images(single, "/root/waiting", 20)
    single.succeed("imgsys send --quiet --no-wait /root/waiting")
    single.succeed("mkdir -m 700 /root/backup")
    # The spool first, the database last: what left the spool in between is in the database.
    single.succeed("systemctl stop imgsys-server.service")
    single.succeed("tar -C /var/lib/imgsys -cf /root/backup/server.tar .")
    single.succeed("systemctl start imgsys-server.service")
    single.succeed("runuser -u postgres -- pg_dump -Fc imgsys >/root/backup/history.dump")

with subtest("everything is lost"):
    single.succeed("systemctl stop imgsys.slice redis-imgsys.service")
    single.succeed("find /var/lib/imgsys /var/lib/redis-imgsys -mindepth 1 -delete")
    single.succeed("runuser -u postgres -- dropdb imgsys")

with subtest("the backup is put back"):
    single.succeed("runuser -u postgres -- createdb --owner imgsys imgsys")
    single.succeed("runuser -u postgres -- pg_restore -d imgsys </root/backup/history.dump")
    single.succeed("tar -C /var/lib/imgsys -xpf /root/backup/server.tar")
    for unit in ("redis-imgsys", "imgsys-server", "imgsys-persister", "imgsys-worker"):
        single.succeed(f"systemctl start {unit}.service")

with subtest("the history is whole, and what waited is analysed"):
    wait_for_history(single, 25)
    listed = imgsys(single, "history --limit 100", server="127.0.0.1")
    t.assertLessEqual({answer["job"] for answer in before}, {job["job"] for job in listed})

with subtest("images come back as they were sent, and are known when they are sent again"):
    job = next(answer["job"] for answer in before if answer["name"].endswith("rocket.jpg"))
    single.succeed(f"imgsys get {job} -o /root/rocket.jpg")
    single.succeed("cmp /root/rocket.jpg /etc/imgsys-e2e/samples/rocket.jpg")
    again = imgsys(single, "send /etc/imgsys-e2e/samples", server="127.0.0.1")
    t.assertTrue(all(answer["duplicate"] for answer in again))
