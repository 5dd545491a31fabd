//! The command line: migrating, waiting, ending.

#![allow(clippy::unwrap_used)]

mod support;

use assert_cmd::Command;
use predicates::str::{contains, starts_with};
use std::{os::unix::net::UnixListener, process, time::Duration};
use support::{Site, eventually};

fn persister() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsys-persister"));
    // Tests run side by side.
    command.env("IMGSYS_PERSISTER_HTTP_LISTEN", "");
    command
}

#[test]
fn without_a_schema_it_says_what_to_do_and_waits() {
    let site = Site::without_schema();
    let service = site.started("persister");
    let jobs = site.jobs(5);
    site.finish(&jobs);
    eventually("it says what to do", || {
        let lines = service.last_lines().join("\n");
        lines.contains("waiting for PostgreSQL") && lines.contains("imgsys-persister migrate")
    });
    let migrate = || {
        let mut command = persister();
        command.args(["--database-url", &site.postgres.url(), "migrate"]);
        command
    };
    migrate()
        .assert()
        .success()
        .stdout(starts_with("applied 0001_jobs\napplied 0002_analyzers\n"));
    migrate()
        .assert()
        .success()
        .stdout("the schema is up to date\n");
    site.await_rows(&jobs);
}

#[test]
fn with_migrate_it_helps_itself() {
    let site = Site::without_schema();
    let flags = ["--migrate", "--linger", "5ms"];
    let both = [
        site.persister("left", &flags),
        site.persister("right", &flags),
    ];
    for service in &both {
        service.start().unwrap();
    }
    let jobs = site.jobs(5);
    site.finish(&jobs);
    site.await_rows(&jobs);
}

#[test]
fn a_newer_database_is_not_migrated() {
    let site = Site::new();
    site.sql()
        .batch_execute("INSERT INTO schema_migrations VALUES ('9999_future', '')")
        .unwrap();
    persister()
        .args(["--database-url", &site.postgres.url(), "--migrate"])
        .args(["--redis-url", &site.redis.url()])
        .assert()
        .code(1)
        .stderr(contains("newer than this program"));
}

#[test]
fn a_signal_ends_it_well_whatever_is_down() {
    let site = Site::new();
    for (name, postgres, redis) in [
        ("both", true, true),
        ("pg", true, false),
        ("none", false, false),
    ] {
        if !redis {
            site.redis.stop();
        }
        if !postgres {
            site.postgres.stop();
        }
        let service = site.started(name);
        service.ask_to_stop();
        let status = service.wait(Duration::from_secs(20)).unwrap();
        assert!(
            status.success(),
            "{name}: {status}\n{}",
            service.last_lines().join("\n")
        );
    }
}

#[test]
fn a_signal_ends_it_in_a_transaction_that_postgresql_does_not_answer() {
    let site = Site::new();
    let service = site.started("persister");
    let jobs = site.jobs(20);
    site.postgres.pause().unwrap();
    site.accept(&jobs);
    site.finish(&jobs);
    eventually("it holds events", || site.pending() > 0);
    service.ask_to_stop();
    // Sooner than it gives up the transaction.
    let status = service.wait(Duration::from_secs(20)).unwrap();
    assert!(status.success(), "{}", service.last_lines().join("\n"));
    assert!(site.pending() > 0);
    site.postgres.resume();
    let _again = site.started("again");
    site.await_rows(&jobs);
}

#[test]
fn a_signal_ends_it_while_a_silent_postgresql_is_connected_to() {
    let dir = tempfile::tempdir().unwrap();
    let silent = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    let url = format!("host='{}' user=imgsys dbname=imgsys", dir.path().display());
    for (arguments, code) in [(["--migrate", "run"], 0), (["--batch=1", "migrate"], 1)] {
        let mut child = process::Command::new(env!("CARGO_BIN_EXE_imgsys-persister"))
            .args(["--http-listen", "", "--redis-url", "unix:///nowhere"])
            .args(["--database-url", &url])
            .args(arguments)
            .spawn()
            .unwrap();
        let _connection = silent.accept().unwrap();
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .assert()
            .success();
        eventually("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn mistakes_are_told_in_one_line() {
    persister().arg("--bogus").assert().code(2);
    persister()
        .args(["--redis-url", "http://x"])
        .assert()
        .code(2)
        .stderr(starts_with("imgsys-persister: reading the URL of Redis: "));
    persister()
        .args([
            "--database-url",
            "mysql://x",
            "--redis-url",
            "unix:///nowhere",
        ])
        .assert()
        .code(2)
        .stderr(starts_with(
            "imgsys-persister: reading the connection string of PostgreSQL: ",
        ));
    persister()
        .args(["--database-url", "host=/nowhere user=x", "migrate"])
        .assert()
        .code(1)
        .stderr(contains("connecting to PostgreSQL: "));
    persister().arg("check-config").assert().success();
}
