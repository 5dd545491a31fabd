//! What `send` does when it does not get its way.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use imgsys_types::{ErrorCode, Limits};
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use support::{
    image, imgsys, send,
    server::{Server, Trick},
    spawn, text,
};

#[test]
fn refusal_for_good_fails_that_file_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([Trick::Refuse(ErrorCode::Conflict, None)]);
    let files = [image(&dir, "a.jpg", 10), image(&dir, "b.jpg", 20)];
    let (code, mut lines) = send(&server, &["-j1", &files[0], &files[1]]);
    assert_eq!(code, 1);
    lines.sort_by_key(|line| line["name"].to_string());
    assert_eq!(lines[0]["reason"], "conflict");
    assert_eq!(lines[0]["detail"], "no\x1b[2J", "JSON keeps it, escaped");
    assert_eq!(lines[1]["state"], "done");
}

#[test]
fn limits_of_the_server_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    server.state().limits = Limits {
        max_image: 100,
        ..Limits::default()
    };
    let files = [image(&dir, "big.jpg", 101), image(&dir, "fits.jpg", 100)];
    let (code, lines) = send(&server, &[&files[0], &files[1]]);
    assert_eq!(code, 1);
    let big = lines.iter().find(|line| line["name"] == *files[0]).unwrap();
    assert_eq!(
        (&big["reason"], &big["state"]),
        (&"image_too_large".into(), &"failed".into())
    );
    assert_eq!(server.state().bodies.len(), 1);
}

#[test]
fn goodbyes_that_make_no_sense_to_repeat_end_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = image(&dir, "a.jpg", 10);
    for (trick, code, line) in [
        (
            Trick::Turn(ErrorCode::UnsupportedVersion),
            3,
            "bye\u{fffd}[2J (unsupported_version)",
        ),
        (
            Trick::WrongVersion,
            3,
            "it speaks version 99 of the protocol",
        ),
        (
            Trick::Turn(ErrorCode::NotAllowed),
            4,
            "not allowed: bye\u{fffd}[2J",
        ),
    ] {
        for args in [vec!["send", &*file], vec!["status"]] {
            let server = Server::start([trick]);
            imgsys(&server.address)
                .args(args)
                .assert()
                .code(code)
                .stdout(is_empty())
                .stderr(
                    contains(line).and(predicate::function(|text: &str| text.lines().count() == 1)),
                );
        }
    }
    let server = Server::start([Trick::Refuse(ErrorCode::NotAllowed, None)]);
    let (code, lines) = send(&server, &[&file]);
    assert_eq!((code, &lines[0]["reason"]), (4, &"not_allowed".into()));
}

#[test]
fn something_else_at_the_port_is_no_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    imgsys(&address)
        .arg("status")
        .assert()
        .code(3)
        .stderr(contains("does not speak the imgsys protocol"));
    web.join().unwrap();
}

#[test]
fn server_gone_for_good_is_exit_code_3_with_a_line_for_each_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([Trick::Die]);
    let file = image(&dir, "a.jpg", 10);
    imgsys(&server.address)
        .args(["send", &file, "--retry-for", "500ms"])
        .assert()
        .code(3)
        .stdout(contains("a.jpg").and(contains("queued: no server")))
        .stderr(contains("wait for them with"));
}

#[test]
fn file_that_shrinks_while_it_is_sent_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    // The server refuses the question for a moment, in which the file changes.
    let server = Server::start([Trick::Refuse(ErrorCode::Unavailable, Some(1500))]);
    let files = [image(&dir, "a.jpg", 300_000), image(&dir, "b.jpg", 200_000)];
    let child = spawn(&server, &["send", "-j1", "--json", &files[0], &files[1]]);
    server.wait_for("the refusal", |state| state.tricks.is_empty());
    std::fs::write(&files[0], vec![1; 300_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = text(&*output.stdout);
    let lines: Vec<serde_json::Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines[0]["reason"], "changed");
    assert_eq!(lines[1]["state"], "done");
}

#[test]
fn time_limit_leaves_accepted_jobs_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    server.state().silent = true;
    let file = image(&dir, "a.jpg", 10);
    imgsys(&server.address)
        .args(["send", &file, "--timeout", "1s"])
        .assert()
        .code(1)
        .stdout(contains("queued: not everything was answered within 1.0 s"))
        .stderr(contains("not everything was answered").and(contains("wait for them with")));
}
