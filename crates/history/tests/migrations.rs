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
