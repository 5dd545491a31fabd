//! `imgsys-local` as a person meets it: commands, exit codes, error lines.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows test functions, not their helpers"
)]

use assert_cmd::Command;
use predicates::{
    prelude::PredicateBooleanExt,
    str::{contains, starts_with},
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ExitStatus, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgsys-local");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");

fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    command
}

/// A directory that PostgreSQL's user can get to.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o711))
        .tempdir()
        .unwrap()
}

#[test]
fn help_and_version_succeed() {
    local(&["--help"]).assert().success().stdout(
        contains("up ")
            .and(contains("demo "))
            .and(contains("Exit codes")),
    );
    local(&["up", "--help"])
        .assert()
        .success()
        .stdout(contains("--data <DIR>").and(contains("[default: 127.0.0.1:7450]")));
    local(&["--version"])
        .assert()
        .success()
        .stdout(starts_with("imgsys-local "));
}

#[test]
fn wrong_usage_is_code_2() {
    for wrong in [
        &[][..],
        &["down"],
        &["up", "--frobnicate"],
        &["up", "--workers", "257"],
        &["up", "--workers", "many"],
        &["up", "--data"],
        &["demo", "--listen", "127.0.0.1:0"],
    ] {
        local(wrong)
            .assert()
            .code(2)
            .stderr(contains("'--help'").or(contains("Usage: ")));
    }
}

/// One line on standard error after the first, which says where it starts.
fn fails(command: &mut Command, line: &str) {
    let assert = command.assert().code(1).stdout("");
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("imgsys-local: "), "{said}");
    assert!(last.contains(line), "{said}");
    assert!(said.lines().count() <= 2, "{said}");
}

#[test]
fn without_redis_it_says_what_to_install() {
    let data = folder();
    let data = data.path().to_str().unwrap();
    fails(
        local(&["up", "--data", data]).env("PATH", ""),
        "redis-server not found: apt-get install redis-server (or run scripts/setup)",
    );
    fails(local(&["demo"]).env("PATH", ""), "redis-server not found");
}

#[test]
fn without_the_other_programs_it_says_how_to_build_them() {
    let alone = folder();
    let program = alone.path().join("imgsys-local");
    // A link would lead back to the folder of the others.
    std::fs::copy(PROGRAM, &program).unwrap();
    let data = alone.path().join("data");
    let mut up = Command::new(&program);
    up.arg("up").arg("--data").arg(&data);
    fails(&mut up, "imgsys-persister is neither in");
    let mut demo = Command::new(&program);
    demo.arg("demo");
    fails(&mut demo, "imgsys is neither in");
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let data = folder();
    std::fs::write(data.path().join("letter.txt"), "dear").unwrap();
    let path = data.path().to_str().unwrap();
    fails(
        &mut local(&["up", "--data", path]),
        "holds other files: name an empty or a new directory",
    );
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    fails(
        &mut local(&["up", "--data", "/proc/imgsys"]),
        "making /proc/imgsys",
    );
}

#[test]
fn a_path_too_long_for_sockets_is_refused() {
    let data = folder();
    let long = data.path().join("d".repeat(120));
    fails(
        &mut local(&["up", "--data", long.to_str().unwrap()]),
        "too long by",
    );
}

#[test]
fn a_path_that_urls_would_read_otherwise_is_refused() {
    for odd in ["what?", "50%", "it's", "a,b", "#1"] {
        let data = folder();
        let odd = data.path().join(odd);
        fails(
            &mut local(&["up", "--data", odd.to_str().unwrap()]),
            "which URLs give a meaning",
        );
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let data = folder();
    let lock = data.path().join("lock");
    std::fs::write(&lock, "4711\n").unwrap();
    let held = File::open(&lock).unwrap();
    held.lock().unwrap();
    fails(
        &mut local(&["up", "--data", data.path().to_str().unwrap()]),
        "is in use by another imgsys-local (process 4711)",
    );
}

/// `imgsys-local up` that has come up.
struct Up {
    child: Child,
    address: String,
    said: String,
}

impl Up {
    fn start(data: &Path) -> Self {
        let mut child = std::process::Command::new(PROGRAM)
            .args(["up", "--listen", "127.0.0.1:0", "--http-listen"])
            .args(["127.0.0.1:0", "--workers", "2", "--data"])
            .arg(data)
            // The system's own places are no matter of the environment.
            .env("IMGSYS_REDIS_URL", "redis://127.0.0.1:1")
            .env("IMGSYS_SERVER_DATA_DIR", "/nonexistent")
            // Anything else may be tuned.
            .env("IMGSYS_LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("Ctrl-C stops it.") {
            if out.read_line(&mut said).unwrap() == 0 {
                let mut error = String::new();
                _ = child.stderr.take().unwrap().read_to_string(&mut error);
                panic!("{said}\n{error}");
            }
        }
        let (_, line) = said.split_once("IMGSYS_SERVER=").unwrap();
        let (address, _) = line.split_once(' ').unwrap();
        Self {
            child,
            address: address.to_owned(),
            said,
        }
    }

    fn client(&self, arguments: &[&str]) -> String {
        let program = Path::new(PROGRAM).with_file_name("imgsys");
        let mut command = Command::new(program);
        command.args(arguments).env("IMGSYS_SERVER", &self.address);
        let assert = command.assert().success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    }

    fn children(&self) -> Vec<(i32, String)> {
        let parent = self.child.id().to_string();
        let read = |pid: i32, name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, read(pid, "stat").ok()?)))
            .filter(|(_, stat)| {
                let (_, rest) = stat.rsplit_once(") ").unwrap();
                rest.split(' ').nth(1) == Some(&parent)
            })
            .filter_map(|(pid, _)| Some((pid, read(pid, "cmdline").ok()?)))
            .collect()
    }

    fn signal(pid: i32, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code and what it said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let children = self.children();
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        for (pid, name) in children {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name}");
        }
        (status, said)
    }

    fn stop(self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        Self::signal(pid, rustix::process::Signal::TERM);
        let (status, said) = self.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.ends_with("imgsys-local: stopped\n"), "{said}");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children go with it.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn up_serves_until_it_is_stopped_and_keeps_what_it_has() {
    let data = folder();
    let dir = data.path().join("my data");
    let up = Up::start(&dir);
    assert!(up.said.contains("with 2 worker(s)"), "{}", up.said);
    assert!(up.said.contains(dir.to_str().unwrap()), "{}", up.said);
    let cat = format!("{SAMPLES}/cat.jpg");
    assert!(up.client(&["send", &cat]).contains("cat.jpg"));
    // redis, postgres, persister, server and two workers
    assert_eq!(up.children().len(), 6, "{:?}", up.children());
    fails(
        &mut local(&["up", "--data", dir.to_str().unwrap()]),
        &format!("in use by another imgsys-local (process {})", up.child.id()),
    );
    up.stop();

    let up = Up::start(&dir);
    assert!(up.client(&["history"]).contains("cat.jpg"));
    up.stop();
    for part in ["redis", "postgres", "persister", "server", "worker-2"] {
        assert!(dir.join("log").join(format!("{part}.log")).exists());
    }
    let log = std::fs::read_to_string(dir.join("log/server.log")).unwrap();
    assert!(log.starts_with('{'), "{log}");
}

#[test]
fn a_part_that_dies_is_told_and_the_rest_is_stopped() {
    for (program, name) in [("imgsys-worker", "worker-"), ("postgres", "postgres")] {
        let data = folder();
        let up = Up::start(&data.path().join("data"));
        let children = up.children();
        let (pid, _) = children
            .iter()
            .find(|(_, line)| line.contains(program))
            .unwrap();
        Up::signal(*pid, rustix::process::Signal::KILL);
        let (status, said) = up.end();
        assert_eq!(status.code(), Some(1), "{said}");
        let (_, told) = said.rsplit_once("imgsys-local: ").unwrap();
        assert!(told.starts_with(name), "{said}");
        assert!(told.contains("ended: signal: 9 (SIGKILL)"), "{said}");
        assert!(told.contains("its last lines:\n"), "{said}");
    }
}

#[test]
fn killed_it_takes_everything_along_and_comes_up_again() {
    let data = folder();
    let dir = data.path().join("data");
    let up = Up::start(&dir);
    up.client(&["send", &format!("{SAMPLES}/cat.jpg")]);
    drop(up);
    let up = Up::start(&dir);
    assert!(up.client(&["history"]).contains("cat.jpg"));
    up.stop();
}

#[test]
fn a_part_that_cannot_start_is_told_with_its_last_lines() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder();
    let dir = data.path().join("data");
    local(&["up", "--listen", &address, "--data", dir.to_str().unwrap()])
        .assert()
        .code(1)
        .stdout("")
        .stderr(
            contains("imgsys-local: server ended: exit status: 1; its last lines:\n")
                .and(contains(&address)),
        );
}

#[test]
fn demo_shows_answers_and_history() {
    let assert = local(&["demo", SAMPLES]).assert().success();
    let said = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    // Once in the answers, once in the history.
    assert_eq!(said.matches("rocket.jpg").count(), 2, "{said}");
}

#[test]
fn demo_fails_as_the_client_does() {
    let images = folder();
    let text = images.path().join("text.jpg");
    std::fs::write(&text, "no image").unwrap();
    local(&["demo", text.to_str().unwrap()])
        .assert()
        .code(1)
        .stdout(contains("text.jpg"));
}
