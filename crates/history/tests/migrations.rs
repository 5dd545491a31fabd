//! The schema is brought up to date once, by whoever comes first, and only if it is ours.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{MigrateError, WriteError, Writer, connect, migrate, migrate::status};
use support::{empty, migrated, superuser};

#[test]
fn twice_is_once() {
    let server = empty();
    let mut client = connect(&server.url()).unwrap();
    let before = status(&mut client).unwrap();
    assert!(before.applied.is_empty() && !before.is_current());
    assert!(matches!(
        Writer::connect(&server.url()),
        Err(WriteError::Schema(_))
    ));

    assert_eq!(migrate(&mut client).unwrap(), before.pending);
    assert_eq!(migrate(&mut client).unwrap(), Vec::<&str>::new());
    let after = status(&mut client).unwrap();
    assert_eq!(after.applied, before.pending);
    assert!(after.is_current());
    Writer::connect(&server.url()).unwrap();
}

#[test]
fn programs_that_start_together_take_turns() {
    let server = empty();
    let url = server.url();
    let done: Vec<&str> = std::thread::scope(|scope| {
        let run = || migrate(&mut connect(&url).unwrap()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        let done = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        done.collect()
    });
    let applied = status(&mut connect(&url).unwrap()).unwrap().applied;
    assert_eq!(done, applied);
}

#[test]
fn altered_or_newer_schemas_are_refused() {
    let server = migrated();
    let mut client = connect(&server.url()).unwrap();

    client
        .batch_execute("INSERT INTO schema_migrations VALUES ('9999_future', '')")
        .unwrap();
    let refused = migrate(&mut client);
    assert!(
        matches!(&refused, Err(MigrateError::Newer(name)) if name == "9999_future"),
        "{refused:?}"
    );
    // The lock is free again, and a newer database can be written to.
    Writer::connect(&server.url()).unwrap();

    client
        .batch_execute(
            "DELETE FROM schema_migrations WHERE name = '9999_future';
             UPDATE schema_migrations SET sql = sql || ' ' WHERE name = '0001_jobs'",
        )
        .unwrap();
    let refused = migrate(&mut client);
    assert!(
        matches!(&refused, Err(MigrateError::Altered(name)) if name == "0001_jobs"),
        "{refused:?}"
    );
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    let server = empty();
    // As if it had been made so; no template for that is at hand.
    superuser(&server)
        .batch_execute("UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1')")
        .unwrap();
    let refused = migrate(&mut connect(&server.url()).unwrap());
    assert!(
        matches!(&refused, Err(MigrateError::Encoding(name)) if name == "LATIN1"),
        "{refused:?}"
    );
}

/// What the catalogue says of the tables of the history.
fn schema(client: &mut postgres::Client) -> Vec<String> {
    let rows = client.query(
        "SELECT format('%s.%s %s %s', table_name, column_name, data_type, is_nullable)
         FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
         UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid)
                   FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         ORDER BY 1",
        &[],
    );
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn what_was_written_under_the_first_schema_is_there_under_this_one() {
    let server = empty();
    let mut client = connect(&server.url()).unwrap();
    let first = include_str!("../../../sql/0001_jobs.sql");
    client.batch_execute(first).unwrap();
    client
        .batch_execute(
            "CREATE TABLE schema_migrations (name text PRIMARY KEY, sql text NOT NULL,
                                             applied_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence, state,
                               priority, sha256, owner, name, label)
             SELECT md5(n::text)::uuid, gen_random_uuid(), now(), now(), 1, n % 2, 50, 'done', 5,
                    sha256(n::text::bytea), 'local', 'image ' || n, 'cat'
             FROM generate_series(1, 10) AS n;
             INSERT INTO jobs (id, server, submitted_at, bytes, priority, sha256, owner, name)
             VALUES (gen_random_uuid(), gen_random_uuid(), now(), 1, 5, sha256(''), 'local', 'new');
             INSERT INTO predictions (job_id, run, finished_at, queued_us, analysis_us, attempts,
                                      confidence, state, analyzer, analyzer_version, model, label,
                                      scores, properties)
             SELECT j.id, r, now(), 1, 1, 1, 50, 'done', 'version ' || r, '1', sha256(''), 'cat',
                    '[]', '{\"format\": \"bmp\", \"width\": 1, \"height\": 1}'
             FROM jobs j, generate_series(0, j.run) AS r",
        )
        .unwrap();
    client
        .execute(
            "INSERT INTO schema_migrations (name, sql) VALUES ('0001_jobs', $1)",
            &[&first],
        )
        .unwrap();

    let pending = status(&mut client).unwrap().pending;
    assert_eq!(migrate(&mut client).unwrap(), pending);
    let rows = client
        .query("SELECT run, analyzer, model IS NULL FROM jobs", &[])
        .unwrap();
    assert_eq!(rows.len(), 11);
    for row in rows {
        let run: Option<i64> = row.get(0);
        let newest = run.map(|run| format!("version {run}"));
        assert_eq!(row.get::<_, Option<String>>(1), newest);
        assert_eq!(row.get::<_, bool>(2), run.is_none());
    }
    let fresh = migrated();
    let mut fresh = connect(&fresh.url()).unwrap();
    assert_eq!(schema(&mut client), schema(&mut fresh));
}

#[test]
fn predictions_go_with_their_jobs() {
    let server = migrated();
    let mut client = connect(&server.url()).unwrap();
    let job = "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, state, priority,
                                 sha256, owner, name)
               SELECT md5(n::text)::uuid, gen_random_uuid(), now(), now(), 1, 1, 'failed', 5, sha256(''),
                      'local', ''
               FROM generate_series(1, 3) AS n;
               INSERT INTO predictions (job_id, run, finished_at, queued_us, analysis_us, attempts, state,
                                        reason, detail)
               SELECT j.id, r, now(), 1, 1, 1, 'failed', 'corrupt', '' FROM jobs j, generate_series(0, 1) AS r";
    client.batch_execute(job).unwrap();
    for (statement, left) in [
        ("DELETE FROM jobs WHERE id = md5('1')::uuid", 4),
        ("TRUNCATE jobs", 0),
    ] {
        client.batch_execute(statement).unwrap();
        let count = "SELECT count(*) FROM predictions";
        let count: i64 = client.query_one(count, &[]).unwrap().get(0);
        assert_eq!(count, left, "{statement}");
    }
}
