//! What needs no server: usage, exit codes, error lines.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use predicates::prelude::*;
use predicates::str::{contains, is_empty, starts_with};
use support::{imgsys, nowhere, write};

const JOB: &str = "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c";

#[test]
fn help_names_every_command_and_exit_code() {
    let names = [
        "send",
        "history",
        "show",
        "wait",
        "get",
        "cancel",
        "delete",
        "reanalyze",
        "status",
    ];
    let short = imgsys("h").arg("-h").assert().code(0).stderr(is_empty());
    let short = String::from_utf8(short.get_output().stdout.clone()).unwrap();
    let long = imgsys("h")
        .arg("--help")
        .assert()
        .code(0)
        .stdout(contains("Exit codes:"));
    let long = String::from_utf8(long.get_output().stdout.clone()).unwrap();
    assert!(short.len() < long.len());
    for name in names {
        assert!(short.contains(name) && long.contains(name), "{name}");
        imgsys("h")
            .args([name, "-h"])
            .assert()
            .code(0)
            .stdout(contains("Usage: imgsys"));
        imgsys("h")
            .args(["help", name])
            .assert()
            .code(0)
            .stdout(contains("Global options"));
    }
    imgsys("h")
        .args(["send", "--help"])
        .assert()
        .stdout(contains("duplicate"));
    imgsys("h")
        .arg("--version")
        .assert()
        .code(0)
        .stdout(starts_with("imgsys 0."));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for (args, line) in [
        (vec![], "Usage: imgsys"),
        (vec!["sned"], "sned"),
        (vec!["send"], "<PATH>"),
        (
            vec!["send", "a", "--priority", "10"],
            "a priority is 0 (first) to 9 (last)",
        ),
        (vec!["send", "a", "--jobs", "0"], "0"),
        (
            vec!["send", "a", "--timeout", "soon"],
            "a span is a number and a unit",
        ),
        (vec!["send", "a", "--frobnicate"], "--frobnicate"),
        (vec!["history", "--since", "soon"], "a time is 2026-11-01"),
        (
            vec!["history", "--min-confidence", "101"],
            "0 to 100 percent",
        ),
        (vec!["history", "--state", "gone"], "queued, done or failed"),
        (vec!["history", "--limit", "0"], "0"),
        (vec!["history", "--limit", "5", "--all"], "--all"),
        (vec!["history", "--json", "--csv"], "--csv"),
        (vec!["show"], "<JOB>"),
        (vec!["show", "cat.jpg"], "not a UUID"),
        (vec!["wait"], "<JOB>"),
        (vec!["wait", "x"], "not a UUID"),
        (vec!["get", "x"], "not a UUID"),
        (vec!["cancel"], "<JOB>"),
        (vec!["delete"], "<JOB>"),
        (vec!["reanalyze"], "which jobs?"),
        (vec!["reanalyze", JOB, "--all"], "--all"),
        (vec!["reanalyze", JOB, "--label", "cat"], "not by both"),
        (
            vec!["reanalyze", "--except-model", "abc"],
            "64 hexadecimal digits",
        ),
        (vec!["status", "now"], "now"),
        (
            vec!["status", "--server", "a:b:c"],
            "an address is HOST or HOST:PORT",
        ),
        (vec!["status", "-q", "-v"], "--verbose"),
        (
            vec!["status", "--retry-for", "1"],
            "a span is a number and a unit",
        ),
    ] {
        imgsys("h")
            .args(&args)
            .assert()
            .code(2)
            .stdout(is_empty())
            .stderr(contains(line));
    }
    imgsys("http://h")
        .arg("status")
        .assert()
        .code(2)
        .stderr(contains("an address is"));
    imgsys("h")
        .args(["wait", "-"])
        .write_stdin(format!("{JOB}\nrubbish\n"))
        .assert()
        .code(2)
        .stderr("imgsys: standard input, line 2: not a UUID, such as 0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c\n");
}

#[test]
fn no_server_is_one_line_and_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "a.jpg", b"image");
    for args in [
        vec!["send", &file],
        vec!["history"],
        vec!["show", JOB],
        vec!["wait", JOB],
        vec!["get", JOB],
        vec!["cancel", JOB],
        vec!["delete", JOB],
        vec!["reanalyze", JOB],
        vec!["reanalyze", "--all"],
        vec!["status"],
    ] {
        let address = nowhere();
        imgsys(&address)
            .args(&args)
            .args(["--connect-timeout", "300ms"])
            .current_dir(dir.path())
            .assert()
            .code(3)
            .stdout(is_empty())
            .stderr(
                starts_with(format!("imgsys: no server at {address} (tried for "))
                    .and(contains("onnection refused"))
                    .and(predicate::function(|text: &str| text.lines().count() == 1)),
            );
    }
}

#[test]
fn files_that_cannot_be_sent_need_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let empty = write(dir.path(), "empty.jpg", b"");
    let missing = dir.path().join("missing.jpg").to_str().unwrap().to_owned();
    std::fs::create_dir(dir.path().join("bare")).unwrap();
    let bare = dir.path().join("bare").to_str().unwrap().to_owned();
    let output = imgsys(&nowhere())
        .args(["send", &empty, &missing, &bare, "/dev/null", "--json"])
        .assert()
        .code(1)
        .stderr(contains("4 in").and(contains("4 failed")));
    let lines: Vec<serde_json::Value> = output
        .get_output()
        .stdout
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            (
                line["name"].as_str().unwrap(),
                line["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (&*empty, "empty_image"),
            (&*missing, "not_found"),
            (&*bare, "no_images"),
            ("/dev/null", "not_a_file")
        ]
    );
    assert!(
        lines
            .iter()
            .all(|line| line["state"] == "failed" && line["job"].is_null())
    );
}

#[test]
fn missing_file_is_told_though_there_is_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "a.jpg", b"image");
    imgsys(&nowhere())
        .args(["send", "missing.jpg", &file, "--connect-timeout", "200ms"])
        .assert()
        .code(3)
        .stdout(contains("missing.jpg").and(contains("failed: not_found: no such file")))
        .stderr(contains("no server at"));
}

#[test]
fn names_are_cleaned_before_they_are_printed() {
    let assert = imgsys("h")
        .args(["send", "a\x1b[31m\u{202e}\n.jpg"])
        .assert()
        .code(1);
    let stdout = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(
        stdout.contains("a\u{fffd}[31m\u{fffd}\u{fffd}.jpg"),
        "{stdout:?}"
    );
    assert!(!stdout.contains(['\x1b', '\u{202e}']));
}

#[test]
fn colours_come_when_they_are_wanted() {
    let run = |args: &[&str], no_color: bool| {
        let mut command = imgsys("h");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let assert = command
            .args(["send", "missing.jpg"])
            .args(args)
            .assert()
            .code(1);
        assert.get_output().stdout.contains(&0x1b)
    };
    assert!(!run(&[], false), "no terminal");
    assert!(run(&["--color", "always"], false));
    assert!(run(&["--color", "always"], true), "asked for by name");
    assert!(!run(&["--color", "never"], false));
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "there.jpg", b"mine");
    imgsys(&nowhere())
        .args(["get", JOB, "-o", &file])
        .assert()
        .code(1)
        .stderr(format!(
            "imgsys: {file} exists already; --force replaces it\n"
        ));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}
