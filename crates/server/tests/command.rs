//! The server's command line: its exit codes and its error lines.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStderr, Stdio},
};
use tempfile::TempDir;

/// The server with nothing around it but an empty directory.
fn server(dir: &TempDir) -> Command {
    let mut command = Command::cargo_bin("imgsys-server").unwrap();
    command.args(arguments(dir));
    command
}

fn arguments(dir: &TempDir) -> Vec<String> {
    let data = dir.path().display().to_string();
    let redis = format!("unix://{data}/no-redis");
    let database = format!("host={data} user=nobody dbname=none");
    [
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "",
        "--data-dir",
        &data,
    ]
    .into_iter()
    .chain(["--redis-url", &redis, "--database-url", &database])
    .map(str::to_owned)
    .collect()
}

/// A running server, and what it has to say.
struct Running(Child, BufReader<ChildStderr>);

impl Running {
    fn start(dir: &TempDir) -> Self {
        let program = assert_cmd::cargo::cargo_bin("imgsys-server");
        let mut child = std::process::Command::new(program)
            .args(arguments(dir))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self(child, log);
        running.wait_for("listening on");
        running
    }

    fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let read = self.1.read_line(&mut seen).unwrap();
            assert!(read > 0, "the log ends without {text:?}: {seen}");
        }
    }

    fn terminate(mut self) -> Option<i32> {
        let pid = i32::try_from(self.0.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

#[test]
fn help_and_version() {
    let dir = TempDir::new().unwrap();
    let help = server(&dir).arg("--help").assert().success();
    help.stdout(contains("--dispatch-window").and(contains("IMGSYS_SERVER_LISTEN")));
    let version = server(&dir).arg("--version").assert().success();
    version.stdout(contains("imgsys-server "));
}

#[test]
fn a_wrong_flag_is_usage() {
    let dir = TempDir::new().unwrap();
    let wrong = server(&dir).arg("--lisen=x").assert().code(2);
    wrong.stderr(contains("--lisen").and(contains("--listen")));
}

#[test]
fn a_wrong_key_is_one_line_with_file_key_and_what_is_allowed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("imgsys.toml");
    fs::write(&file, "[limits]\nmax_imge = \"1MB\"\n").unwrap();
    let assert = server(&dir).arg("--config").arg(&file).assert().code(2);
    let line = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [file.to_str().unwrap(), "limits", "max_imge", "`max_image`"] {
        assert!(line.contains(part), "{part} in {line}");
    }

    fs::write(&file, "[server]\ndurability = \"perhaps\"\n").unwrap();
    let assert = server(&dir).arg("--config").arg(&file).assert().code(2);
    assert.stderr(contains("server.durability").and(contains("`fsync`")));

    let absent = dir.path().join("absent.toml");
    let assert = server(&dir).arg("--config").arg(&absent).assert().code(2);
    assert.stderr(contains("absent.toml").and(contains("can't be read")));
}

#[test]
fn a_port_in_use_is_told() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut arguments = arguments(&dir);
    arguments[1].clone_from(&address);
    let mut command = Command::cargo_bin("imgsys-server").unwrap();
    let assert = command.args(arguments).assert().code(1);
    assert.stderr(contains(format!("listening on {address}")).and(contains("in use")));
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let first = Running::start(&dir);
    let assert = server(&dir).assert().code(1);
    assert.stderr(contains("is in use by another server"));
    assert_eq!(first.terminate(), Some(0));
}

#[test]
fn starts_and_ends_well_without_redis_and_postgres() {
    let dir = TempDir::new().unwrap();
    let server = Running::start(&dir);
    assert_eq!(server.terminate(), Some(0));
    // The directory is free again.
    assert_eq!(Running::start(&dir).terminate(), Some(0));
}
