//! `send` and `wait` against a server that speaks real frames.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use imgsys_types::{ErrorCode, JobId};
use predicates::prelude::*;
use predicates::str::contains;
use std::collections::HashSet;
use support::{
    image, imgsys, send,
    server::{Server, Trick},
    spawn, text, write,
};

/// A line that begins with that file and ends so, whatever the time in between.
fn has_row(file: &str, words: &[&str]) -> impl Predicate<str> {
    let (file, words) = (file.to_owned(), words.join(" "));
    predicate::function(move |text: &str| {
        text.lines()
            .filter(|line| line.contains(&file))
            .any(|line| {
                let is_time = |word: &&str| word.parse::<f64>().is_err() || *word == "97.2";
                let seen: Vec<&str> = line.split_whitespace().skip(1).filter(is_time).collect();
                seen.join(" ") == words
            })
    })
}

#[test]
fn each_file_gets_a_line_and_each_image_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a.jpg", "b.jpg"].map(|name| image(&dir, name, 1000));
    let server = Server::start([]);
    imgsys(&server.address)
        .args(["send", "-j", "1", &files[0], &files[1], "missing.jpg"])
        .assert()
        .code(1)
        .stdout(
            contains("LABEL")
                .and(has_row("a.jpg", &["cat", "97.2", "%", "ms", "new"]))
                .and(has_row("b.jpg", &["cat", "97.2", "%", "ms", "duplicate"]))
                .and(contains("failed: not_found: no such file or directory")),
        )
        .stderr(contains("2 analysed, 1 failed, 1 known before"));
    assert_eq!(server.state().bodies.len(), 1);
}

#[test]
fn json_has_every_field() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    let file = image(&dir, "a.jpg", 1_000_000);
    let (code, lines) = send(&server, &[&file, "--priority", "0"]);
    assert_eq!(code, 0);
    let line = &lines[0];
    assert_eq!(line["name"], *file);
    assert_eq!(line["state"], "done");
    assert_eq!(line["label"], "cat");
    assert_eq!(line["confidence"], 97.25);
    assert_eq!(line["duplicate"], false);
    assert_eq!(line["size"], 1_000_000);
    assert_eq!(line["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(line["analyzer"]["name"], "simulated");
    assert_eq!(line["properties"]["width"], 4);
    assert_eq!(
        (&line["queued_ms"], &line["analysis_ms"]),
        (&1.5.into(), &2.5.into())
    );
    assert_eq!(line["finished_at"], "2026-11-01T12:00:00.000000Z");
    assert!(line["job"].as_str().unwrap().parse::<JobId>().is_ok());
    assert!(line["ms"].as_f64().unwrap() > 0.0);
    assert!(line.get("reason").is_none());
}

#[test]
fn connection_cut_anywhere_changes_nothing() {
    for trick in [
        Trick::CutInBody,
        Trick::CutBeforeAccepted,
        Trick::CutBeforeResult,
        Trick::Leave(ErrorCode::ShuttingDown),
        Trick::Turn(ErrorCode::TooManyConnections),
        Trick::Refuse(ErrorCode::DiskFull, Some(20)),
        Trick::Refuse(ErrorCode::Unavailable, None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start([trick, trick]);
        let file = image(&dir, "a.jpg", 1_000_000);
        let (code, lines) = send(&server, &[&file]);
        assert_eq!((code, lines.len()), (0, 1), "{trick:?}: {lines:?}");
        assert_eq!(lines[0]["label"], "cat", "{trick:?}");
        let state = server.state();
        let ids: HashSet<JobId> = state.submits.iter().map(|(job, _)| *job).collect();
        assert_eq!(ids.len(), 1, "{trick:?}: the job keeps its id");
        assert_eq!(state.jobs.len(), 1, "{trick:?}");
        assert_eq!(state.bodies.len(), 1, "{trick:?}: the image is sent once");
        assert!(state.tricks.is_empty(), "{trick:?}");
    }
}

#[test]
fn accepted_job_is_watched_after_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([Trick::CutBeforeResult]);
    let file = image(&dir, "a.jpg", 10);
    imgsys(&server.address)
        .args(["send", &file])
        .assert()
        .code(0)
        .stderr(contains("lost the connection").and(contains("trying again for up to 10m")));
    assert_eq!(server.state().watches, 1);
    assert_eq!(
        server.state().submits.len(),
        2,
        "asked and sent, not again after the cut"
    );
}

#[test]
fn server_that_lost_its_disk_gets_the_image_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([Trick::Forget]);
    let (code, lines) = send(&server, &[&image(&dir, "a.jpg", 300_000)]);
    assert_eq!((code, lines.len()), (0, 1));
    let state = server.state();
    assert_eq!((state.bodies.len(), state.jobs.len()), (2, 1));
    assert_eq!(state.jobs[0].job.id.to_string(), lines[0]["job"]);
}

#[test]
fn without_waiting_the_ids_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    server.state().silent = true;
    let file = image(&dir, "a.jpg", 10);
    let assert = imgsys(&server.address)
        .args(["send", "--no-wait", "-q", &file])
        .assert()
        .code(0);
    let ids = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(ids.trim_end().parse::<JobId>().is_ok(), "{ids:?}");
    imgsys(&server.address)
        .args(["send", "--no-wait", &file, "missing.jpg"])
        .assert()
        .code(1)
        .stdout(
            contains("a.jpg")
                .and(contains("duplicate"))
                .and(contains("failed: not_found")),
        )
        .stderr(contains("1 accepted, 1 failed"));

    server.state().silent = false;
    imgsys(&server.address)
        .args(["wait", "-"])
        .write_stdin(format!("{ids}\n{}  more words\n", JobId::generate()))
        .assert()
        .code(1)
        .stdout(
            contains("a.jpg")
                .and(contains("cat"))
                .and(contains("failed: unknown_job")),
        );
    imgsys(&server.address)
        .args(["wait", ids.trim_end()])
        .assert()
        .code(0);
}

#[test]
fn paths_come_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    let files = [image(&dir, "a.jpg", 10), image(&dir, "new\nline", 20)];
    imgsys(&server.address)
        .args(["send", "-"])
        .write_stdin(format!("{}\n\nmissing.jpg", files[0]))
        .assert()
        .code(1)
        .stderr(contains("2 in"));
    imgsys(&server.address)
        .args(["send", "-0", "-"])
        .write_stdin(files.join("\0"))
        .assert()
        .code(0)
        .stderr(contains("2 analysed"));
}

#[test]
fn thousands_of_files_are_each_told_once() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3000 {
        write(
            dir.path(),
            &format!("{n}.png"),
            format!("image {n}").as_bytes(),
        );
    }
    let server = Server::start([
        Trick::CutInBody,
        Trick::CutBeforeAccepted,
        Trick::CutBeforeResult,
    ]);
    let (code, lines) = send(&server, &["-j", "64", dir.path().to_str().unwrap()]);
    assert_eq!(code, 0);
    let names: HashSet<&str> = lines
        .iter()
        .map(|line| line["name"].as_str().unwrap())
        .collect();
    assert_eq!((lines.len(), names.len()), (3000, 3000));
    assert_eq!(server.state().jobs.len(), 3000);
}

#[test]
fn interrupt_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    server.state().silent = true;
    let files = [image(&dir, "a.jpg", 10), image(&dir, "b.jpg", 20)];
    let child = spawn(&server, &["send", "-j1", &files[0], &files[1]]);
    // One at a time: the second comes once the client knows that the first was accepted.
    server.wait_for("both jobs", |state| state.jobs.len() == 2);
    let first = server.state().jobs[0].job.id;
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (text(&*output.stdout), text(&*output.stderr));
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("of 2 accepted"), "{stderr}");
    assert!(
        stderr.contains(&format!("imgsys --server {} wait ", server.address)),
        "{stderr}"
    );
    assert!(stderr.contains(&first.to_string()), "{stderr}");
    assert!(
        stdout.contains("a.jpg") && stdout.contains("b.jpg"),
        "{stdout}"
    );
    assert!(stdout.contains("queued: interrupted"), "{stdout}");
}

#[test]
fn closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    let files: Vec<String> = (1..50)
        .map(|n| image(&dir, &format!("{n}.jpg"), n))
        .collect();
    let mut args = vec!["send"];
    args.extend(files.iter().map(String::as_str));
    let mut child = spawn(&server, &args);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), server.state().jobs.len()),
        (Some(0), 49)
    );
}
