# machines: single
"""A database of the first release is brought up to date, with what is in it."""

single.wait_for_unit("imgsys-migrate.service")
single.wait_for_unit("imgsys-persister.service")
before = imgsys(single, "send /etc/imgsys-e2e/samples", server="127.0.0.1")
wait_for_history(single, 5)

with subtest("a database as the first release has left it"):
    single.succeed("systemctl stop imgsys-persister.service imgsys-server.service imgsys-migrate.service")
    psql = "runuser -u postgres -- psql -v ON_ERROR_STOP=1 -q"
    rows = "SELECT id, server, submitted_at, bytes, priority, sha256, owner, name FROM jobs"
    single.succeed(f'{psql} -d imgsys -c "\\copy ({rows}) TO /tmp/rows"')
    single.succeed(f"{psql} -c 'DROP DATABASE imgsys' -c 'CREATE DATABASE imgsys OWNER imgsys'")
    first = "/etc/imgsys-e2e/sql/0001_jobs.sql"
    single.succeed(f"{psql} -d imgsys -c 'SET ROLE imgsys' -f {first}")
    table = (
        "schema_migrations"
        " (name text PRIMARY KEY, sql text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    single.succeed(
        f"{psql} -d imgsys -c 'SET ROLE imgsys' -c 'CREATE TABLE {table}' -c 'RESET ROLE'"
        f" -c \"INSERT INTO schema_migrations VALUES ('0001_jobs', pg_read_file('{first}'))\""
    )
    columns = "id, server, submitted_at, bytes, priority, sha256, owner, name"
    single.succeed(f'{psql} -d imgsys -c "\\copy jobs ({columns}) FROM /tmp/rows"')

with subtest("images are accepted before the schema is up to date"):
    single.succeed("systemctl start imgsys-server.service")
    images(single, "/root/early", 20)
    single.succeed("imgsys send --quiet --no-wait /root/early")

with subtest("the persister's start brings it up to date"):
    single.succeed("systemctl start imgsys-persister.service")
    single.wait_for_unit("imgsys-migrate.service")
    single.succeed("runuser -u imgsys -- imgsys-persister migrate | grep -q 'up to date'")
    migrations = int(single.succeed("ls /etc/imgsys-e2e/sql/*.sql | wc -l"))
    t.assertEqual(sql(single, "SELECT count(*) FROM schema_migrations"), str(migrations))

with subtest("what was in it is still there, and what came meanwhile, too"):
    done = "SELECT count(*) FROM jobs WHERE state = 'done'"
    single.wait_until_succeeds(f'test $(runuser -u postgres -- psql -d imgsys -tAc "{done}") -eq 20')
    listed = imgsys(single, "history --limit 100", server="127.0.0.1")
    t.assertEqual(len(listed), 25)
    t.assertLessEqual({answer["job"] for answer in before}, {job["job"] for job in listed})

with subtest("a schema newer than the programs is refused, not touched"):
    sql(single, "INSERT INTO schema_migrations VALUES ('9999_future', 'SELECT 1')")
    said = single.fail("runuser -u imgsys -- imgsys-persister migrate 2>&1")
    t.assertIn("9999_future", said)
