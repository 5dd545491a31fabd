//! A small server for the client's tests: real frames over TCP, everything in memory, and tricks
//! up its sleeve.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

mod connection;
pub mod server;

use assert_cmd::Command;
use imgsys_types::{Analysis, Analyzer, JobResult, Outcome, Properties, Timestamp};
use server::Server;
use std::{
    io::Read,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The client, talking to this server, in UTC, without anything from the environment.
pub fn imgsys(address: &str) -> Command {
    let mut command = assert_cmd::cargo_bin_cmd!("imgsys");
    command
        .env_remove("NO_COLOR")
        .env_remove("IMGSYS_TOKEN")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("TZ", "UTC")
        .env("IMGSYS_SERVER", address)
        .timeout(Duration::from_secs(60));
    command
}

/// An address where nobody listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Writes a file and gives its path as text.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A bitmap of one pixel; no two numbers give the same image.
pub fn bitmap(number: u32) -> Vec<u8> {
    let mut bytes =
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bytes.resize(54, 0);
    let [a, b, c, _] = number.to_le_bytes();
    bytes.extend([a, b, c, 0]);
    bytes
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the server says of every image.
pub fn cat() -> JobResult {
    JobResult {
        run: 0,
        outcome: Outcome::Done(Analysis {
            analyzer: Analyzer {
                name: "simulated".into(),
                version: "1".into(),
                model: None,
            },
            label: "cat".into(),
            confidence: 97.25,
            scores: vec![],
            properties: Properties {
                format: "jpeg".into(),
                width: 4,
                height: 3,
                extra: [(
                    "note".to_owned(),
                    imgsys_types::Scalar::Text("x\x1b[2J".into()),
                )]
                .into(),
                ..Properties::default()
            },
        }),
        worker: Some("worker@test".into()),
        attempts: 1,
        queued_us: 1500,
        analysis_us: 2500,
        finished_at: Timestamp::from_micros(1_793_534_400_000_000),
    }
}

/// Runs `send --json` on these files and gives exit code and lines.
pub fn send(server: &Server, args: &[&str]) -> (i32, Vec<serde_json::Value>) {
    let output = imgsys(&server.address)
        .args(["send", "--json"])
        .args(args)
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains('\x1b'), "{stderr}");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (output.status.code().unwrap(), lines)
}

pub fn image(dir: &TempDir, name: &str, size: usize) -> String {
    let bytes: Vec<u8> = (0..size)
        .map(|n| u8::try_from(n * 31 % 251).unwrap())
        .collect();
    write(dir.path(), name, &bytes)
}

/// The client as a process that can be interrupted.
pub fn spawn(server: &Server, args: &[&str]) -> Child {
    spawn_at(&server.address, args)
}

/// The same, talking to any server.
pub fn spawn_at(address: &str, args: &[&str]) -> Child {
    std::process::Command::new(assert_cmd::cargo::cargo_bin!("imgsys"))
        .env("IMGSYS_SERVER", address)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}
