//! A PostgreSQL of one's own: restarts, kills, pauses.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows test functions, not their helpers"
)]

use imgsys_local::{Error, Postgres, TestPostgres, Tuning};
use postgres::{Client, NoTls};
use std::{
    os::unix::fs::PermissionsExt,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

fn connect(postgres: &Postgres) -> Client {
    Client::connect(&postgres.url(), NoTls).unwrap()
}

fn count(client: &mut Client) -> i64 {
    let row = client.query_one("SELECT count(*) FROM numbers", &[]);
    row.unwrap().get(0)
}

fn fill(client: &mut Client) {
    client
        .batch_execute("CREATE TABLE numbers AS SELECT * FROM generate_series(1, 1000)")
        .unwrap();
}

#[test]
fn data_outlives_stop_and_kill() {
    let postgres = TestPostgres::start().unwrap();
    let mut client = connect(&postgres);
    fill(&mut client);
    postgres.stop();
    assert!(client.simple_query("SELECT 1").is_err());
    postgres.start().unwrap();
    assert_eq!(count(&mut connect(&postgres)), 1000);

    let mut client = connect(&postgres);
    client.batch_execute("DELETE FROM numbers").unwrap();
    postgres.kill();
    assert!(client.simple_query("SELECT 1").is_err());
    postgres.start().unwrap();
    assert_eq!(count(&mut connect(&postgres)), 0);
}

#[test]
fn a_durable_one_flushes() {
    for (tuning, flushes) in [(Tuning::Durable, "on"), (Tuning::Fast, "off")] {
        let postgres = TestPostgres::start_tuned(tuning).unwrap();
        let row = connect(&postgres).query_one("SHOW fsync", &[]).unwrap();
        assert_eq!(row.get::<_, &str>(0), flushes);
        fill(&mut connect(&postgres));
    }
}

#[test]
fn the_role_owns_its_database_and_is_no_superuser() {
    let postgres = TestPostgres::start().unwrap();
    let row = connect(&postgres)
        .query_one(
            "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (false, false));
}

#[test]
fn paused_even_open_sessions_wait() {
    let postgres = TestPostgres::start().unwrap();
    let mut client = connect(&postgres);
    fill(&mut client);
    postgres.pause().unwrap();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || tell.send(count(&mut client)).unwrap());
    assert_eq!(
        told.recv_timeout(Duration::from_millis(300)),
        Err(RecvTimeoutError::Timeout)
    );
    postgres.resume();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(1000));
    waiting.join().unwrap();
}

#[test]
fn a_paused_one_can_be_killed_stopped_and_dropped() {
    let postgres = TestPostgres::start().unwrap();
    let mut client = connect(&postgres);
    postgres.pause().unwrap();
    postgres.kill();
    assert!(client.simple_query("SELECT 1").is_err());
    postgres.start().unwrap();
    postgres.pause().unwrap();
    postgres.stop();
    postgres.start().unwrap();
    let pid = postgres.service().pid().unwrap();
    postgres.pause().unwrap();
    drop(postgres);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn dropped_after_a_kill_it_leaves_no_shared_memory() {
    let segments = |id: &str| {
        let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        all.lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(id))
            .count()
    };
    let postgres = TestPostgres::start().unwrap();
    let url = postgres.url();
    let dir = url.split('\'').nth(1).unwrap();
    let pidfile = std::fs::read_to_string(format!("{dir}/data/postmaster.pid")).unwrap();
    let line = pidfile.lines().nth(6).unwrap();
    let id = line.split_whitespace().nth(1).unwrap();
    postgres.kill();
    assert_eq!(segments(id), 1);
    drop(postgres);
    assert_eq!(segments(id), 0);
}

#[test]
fn many_start_at_once() {
    let start = || std::thread::spawn(|| TestPostgres::start().unwrap());
    for starting in [start(), start(), start()] {
        fill(&mut connect(&starting.join().unwrap()));
    }
}

#[test]
fn a_directory_out_of_reach_is_named() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root starts it as somebody else.
    }
    let closed = tempfile::tempdir().unwrap();
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(closed.path(), permissions).unwrap();
    };
    mode(0o700);
    let dir = closed.path().join("below");
    let reach = || Postgres::new(&dir, &closed.path().join("log"), Tuning::Fast);
    let error = reach().unwrap_err();
    assert!(matches!(&error, Error::Blocked { blocker, .. } if blocker == closed.path()));
    let text = error.to_string();
    assert!(text.contains("can't enter"), "{text}");
    assert!(text.contains("chmod o+x"), "{text}");
    // What the error says helps.
    mode(0o701);
    reach().unwrap().start().unwrap();
}

#[test]
fn a_cluster_of_a_version_that_is_not_installed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let folder = dir.path().join("pg");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("data/PG_VERSION"), "9\n").unwrap();
    let error = Postgres::new(&folder, &dir.path().join("log"), Tuning::Durable).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("made by PostgreSQL 9"), "{text}");
    assert!(text.contains("apt-get install postgresql-9"), "{text}");
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("d".repeat(120));
    let error = Postgres::new(&folder, dir.path(), Tuning::Fast).unwrap_err();
    assert!(error.to_string().contains("too long by"), "{error}");
}
