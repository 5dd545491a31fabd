//! Supervision: readiness, facts, last lines, and children that never outlive their starter.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows test functions, not their helpers"
)]

use imgsys_local::{Error, Service, Spec, TestPostgres, TestRedis};
use std::{
    env,
    io::Read,
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "IMGSYS_TEST_ROLE";

/// This test program again, as one of the children below.
fn child(role: &str) -> Spec {
    Spec::new("child", env::current_exe().unwrap())
        .args(["plays_its_role", "--exact", "--ignored", "--nocapture"])
        .env(ROLE, role)
}

/// What the children do.
#[test]
#[ignore = "started by the other tests"]
fn plays_its_role() {
    match env::var(ROLE).as_deref() {
        Ok("ready") => {
            notify("X_IMGSYS_LISTEN=127.0.0.1:7\nX_IMGSYS_HTTP=127.0.0.1:8");
            notify("STATUS=well\nREADY=1");
            forever();
        }
        Ok("dies") => {
            for line in 1..=60 {
                eprintln!("line {line}");
            }
            std::process::exit(7);
        }
        Ok("ready, then dies") => {
            notify("READY=1");
            std::process::exit(8);
        }
        Ok("environment") => {
            for name in ["WATCHDOG_USEC", "JOURNAL_STREAM", "LEFT_OUT", "GIVEN"] {
                eprintln!("{name}={:?}", env::var(name).ok());
            }
            std::process::exit(0);
        }
        Ok("starter") => {
            let redis = TestRedis::start().unwrap();
            let postgres = TestPostgres::start().unwrap();
            let pid = |service: &Service| service.pid().unwrap();
            println!(
                "children {} {} .",
                pid(redis.service()),
                pid(postgres.service())
            );
            forever();
        }
        Ok("starter of a paused PostgreSQL") => {
            let postgres = TestPostgres::start().unwrap();
            postgres.pause().unwrap();
            println!("children {} .", postgres.service().pid().unwrap());
            forever();
        }
        other => panic!("no such role: {other:?}"),
    }
}

fn notify(text: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    let to = env::var_os("NOTIFY_SOCKET").unwrap();
    socket.send_to(text.as_bytes(), to).unwrap();
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn ready_is_what_says_so_and_its_facts_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(child("ready"), dir.path());
    assert_eq!(service.fact("LISTEN"), None);
    service.start().unwrap();
    assert_eq!(service.fact("LISTEN").unwrap(), "127.0.0.1:7");
    assert_eq!(service.fact("HTTP").unwrap(), "127.0.0.1:8");
    assert_eq!(service.exit(), None);

    let first = service.pid().unwrap();
    service.restart().unwrap();
    assert_ne!(service.pid().unwrap(), first);
    service.kill();
    assert_eq!(service.pid(), None);
    service.start().unwrap();
    // Nothing to wait for, and no second message to come.
    service.start().unwrap();
}

#[test]
fn what_dies_is_told_with_its_last_fifty_lines() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(child("dies"), dir.path());
    let error = service.start().unwrap_err();
    let Error::Ended {
        name,
        status,
        lines,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((name.as_str(), status.code()), ("child", Some(7)));
    assert_eq!(lines.len(), 50);
    assert_eq!(lines.last().unwrap(), "line 60");
    let text = error.to_string();
    assert!(text.starts_with("child ended: exit status: 7; its last lines:\n  "));
    // All of it is in the file.
    let log = std::fs::read_to_string(dir.path().join("log/child.log")).unwrap();
    assert!(log.contains("line 1\n"), "{log}");
}

#[test]
fn one_that_was_ready_and_died_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(child("ready, then dies"), dir.path());
    // It may be seen ready or dead first.
    _ = service.start();
    let status = service.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(8));
    assert_eq!(service.exit().unwrap().code(), Some(8));
    assert!(service.start().is_err() || service.wait(Duration::from_secs(60)).is_some());
}

#[test]
fn a_killed_one_is_told_with_its_signal() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(child("ready"), dir.path());
    service.start().unwrap();
    let pid = i32::try_from(service.pid().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let status = service.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn the_environment_is_ours_without_the_managers() {
    let dir = tempfile::tempdir().unwrap();
    // Edition 2024 makes set_var unsafe, so the variables come from a process in between.
    let out = Command::new(env::current_exe().unwrap())
        .args(["shows_its_childs_environment", "--exact", "--ignored"])
        .args(["--nocapture"])
        .envs([
            ("WATCHDOG_USEC", "1"),
            ("JOURNAL_STREAM", "1:2"),
            ("LEFT_OUT", "x"),
        ])
        .env("DIR", dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let log = std::fs::read_to_string(dir.path().join("log/child.log")).unwrap();
    for line in [
        "WATCHDOG_USEC=None",
        "JOURNAL_STREAM=None",
        "LEFT_OUT=None",
        "GIVEN=Some(\"yes\")",
    ] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
#[ignore = "started by the_environment_is_ours_without_the_managers"]
fn shows_its_childs_environment() {
    let spec = child("environment")
        .without_env("LEFT_OUT")
        .env("GIVEN", "yes");
    let dir = env::var_os("DIR").unwrap();
    let service = Service::new(spec, Path::new(&dir));
    assert!(service.start().is_err());
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec::new("ghost", "/nonexistent/ghost");
    let error = Service::new(spec, dir.path()).start().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ghost"), "{error}");
    let error = Spec::sibling("ghost", "imgsys-ghost").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cargo build --workspace --bins"), "{text}");
}

/// Starts `role`, kills it as soon as it has told its children, and waits until they are gone.
fn kill_the_starter(role: &str) {
    let temp = tempfile::tempdir_in("/tmp").unwrap();
    // PostgreSQL's user must get through.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(temp.path(), open).unwrap();
    let mut starter = Command::new(env::current_exe().unwrap())
        .args(["plays_its_role", "--exact", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env("TMPDIR", temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = starter.stdout.take().unwrap();
    while !said.ends_with(".\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        said.push(byte[0].into());
    }
    let (_, said) = said.rsplit_once("children ").unwrap();
    let pids: Vec<u32> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .flat_map(with_children)
        .collect();
    assert!(pids.len() > 3, "{said}: {pids:?}");
    starter.kill().unwrap();
    starter.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while pids.iter().any(|pid| parent(*pid).is_some()) {
        assert!(Instant::now() < until, "{pids:?} live on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn with_children(pid: u32) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|other| *other == pid || parent(*other) == Some(pid))
        .collect()
}

/// The parent of a process that is alive.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?;
    (state != "Z").then_some(words.next()?.parse().ok()?)
}

#[test]
fn nothing_outlives_a_killed_starter() {
    kill_the_starter("starter");
}

#[test]
fn not_even_a_paused_postgres() {
    kill_the_starter("starter of a paused PostgreSQL");
}
