//! The commands of one question and one answer, against a server that speaks real frames.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use imgsys_types::{ErrorCode, Failure, FailureReason, JobId, JobResult, Limits};
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use support::{
    cat, imgsys,
    server::{Server, Trick},
};

fn failed() -> JobResult {
    JobResult::failed(0, Failure::new(FailureReason::Truncated, "cut\x1b[2J off"))
}

fn stdout(server: &Server, args: &[&str]) -> String {
    let assert = imgsys(&server.address).args(args).assert().code(0);
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn history_is_a_table_newest_first() {
    let server = Server::start([]);
    let old = server.add_job("old.jpg", b"1", Some(cat()));
    let bad = server.add_job("bad\u{202e}.jpg", b"2", Some(failed()));
    let new = server.add_job("new.jpg", b"3", None);
    let table = stdout(&server, &["history"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("SUBMITTED"));
    assert!(lines[1].contains(&new.to_string()) && lines[1].contains("queued"));
    assert!(
        lines[2].contains(&bad.to_string()) && lines[2].contains("truncated: cut\u{fffd}[2J off")
    );
    assert!(lines[3].contains(&old.to_string()) && lines[3].contains("97.2 %"));
    assert!(
        lines[3].starts_with("2026-11-01 12:00:00  "),
        "{}",
        lines[3]
    );
    assert!(!table.contains(['\x1b', '\u{202e}']));
}

#[test]
fn history_pages_through_everything() {
    let server = Server::start([]);
    server.state().limits = Limits {
        max_page: 7,
        ..Limits::default()
    };
    let jobs: Vec<JobId> = (0..100)
        .map(|n| server.add_job(&format!("{n}.jpg"), b"1", Some(cat())))
        .collect();
    let ids = |args: &[&str]| -> Vec<JobId> {
        stdout(&server, args)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["job"].as_str().unwrap().parse().unwrap())
            .collect()
    };
    let newest: Vec<JobId> = jobs.iter().rev().copied().collect();
    assert_eq!(ids(&["history", "--json", "--all"]), newest);
    assert_eq!(ids(&["history", "--json", "-n", "20"]), newest[..20]);
    assert_eq!(ids(&["history", "--json"]), newest[..50]);
    assert_eq!(
        ids(&["history", "--json", "--all", "--name", "9"]).len(),
        11
    );
}

#[test]
fn history_filters_reach_the_server() {
    let server = Server::start([]);
    server.add_job("a.jpg", b"1", Some(cat()));
    server.add_job("b.jpg", b"2", Some(failed()));
    for (args, lines) in [
        (vec!["--label", "cat"], 1),
        (vec!["--label", "dog"], 0),
        (vec!["--min-confidence", "98"], 0),
        (vec!["--min-confidence", "97%"], 1),
        (vec!["--state", "failed"], 1),
        (vec!["--since", "2026-11-01 12:00"], 2),
        (vec!["--until", "2026-11-01T12:00:00Z"], 0),
    ] {
        let json = stdout(&server, &[vec!["history", "--json"], args.clone()].concat());
        assert_eq!(json.lines().count(), lines, "{args:?}");
    }
    imgsys(&server.address)
        .args(["history", "--label", "dog"])
        .assert()
        .code(0)
        .stdout(is_empty())
        .stderr("imgsys: no such jobs\n");
}

#[test]
fn history_as_csv() {
    let server = Server::start([]);
    let header = "submitted_at,job,name,size,sha256,state,label,confidence,reason,detail,analyzer,\
                  version,queued_ms,analysis_ms,worker,finished_at\n";
    assert_eq!(stdout(&server, &["history", "--csv"]), header);
    let job = server.add_job("a,\"b\"\n.jpg", b"1", Some(cat()));
    let csv = stdout(&server, &["history", "--csv"]);
    let sha256 = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    assert_eq!(
        csv,
        format!(
            "{header}2026-11-01T12:00:00.000000Z,{job},\"a,\"\"b\"\"\u{fffd}.jpg\",1,{sha256},done,cat,97.25,,,\
             simulated,1,1.5,2.5,worker@test,2026-11-01T12:00:00.000000Z\n"
        )
    );
}

#[test]
fn partial_history_is_told() {
    let server = Server::start([]);
    server.state().partial = true;
    server.add_job("a.jpg", b"1", None);
    imgsys(&server.address)
        .args(["history", "-q"])
        .assert()
        .code(0)
        .stdout(contains("a.jpg"))
        .stderr(contains("the server can't reach its database"));
}

#[test]
fn refused_for_now_is_asked_again_and_for_good_is_told() {
    let server = Server::start([Trick::Refuse(ErrorCode::Unavailable, Some(10)); 2]);
    imgsys(&server.address).arg("history").assert().code(0);
    let server = Server::start([Trick::Refuse(ErrorCode::Unavailable, None); 100]);
    imgsys(&server.address)
        .args(["history", "--connect-timeout", "300ms"])
        .assert()
        .code(1)
        .stderr("imgsys: no\u{fffd}[2J (unavailable)\n");
    let server = Server::start([Trick::Refuse(ErrorCode::NotAllowed, None)]);
    imgsys(&server.address)
        .arg("status")
        .assert()
        .code(4)
        .stderr(contains("not allowed"));
}

#[test]
fn show_tells_all() {
    let server = Server::start([]);
    let job = server.add_job("a.jpg", b"1", Some(cat()));
    let shown = stdout(&server, &["show", &job.to_string()]);
    for line in [
        "name        a.jpg",
        "label       cat",
        "pixels      4 x 3",
        "property    extra.note = x\u{fffd}[2J",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&server, &["show", "--json", &job.to_string()])).unwrap();
    assert_eq!(json["owner"], "local");
    assert_eq!(json["properties"]["extra"]["note"], "x\x1b[2J");
    imgsys(&server.address)
        .args(["show", &JobId::generate().to_string()])
        .assert()
        .code(1)
        .stdout(is_empty())
        .stderr(contains("(unknown_job)"));
}

#[test]
fn get_brings_the_image_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([Trick::CutInImage, Trick::CutInImage]);
    let image: Vec<u8> = (0..700_000).map(|n: u32| (n * 7 % 253) as u8).collect();
    let job = server
        .add_job("../../etc/photos/ca\nt.jpg", &image, Some(cat()))
        .to_string();
    let get = |args: &[&str]| {
        let mut command = imgsys(&server.address);
        command
            .current_dir(dir.path())
            .args(["get", &job])
            .args(args)
            .assert()
    };
    get(&[])
        .code(0)
        .stdout(is_empty())
        .stderr(contains("700000 bytes written to ca_t.jpg"));
    assert_eq!(std::fs::read(dir.path().join("ca_t.jpg")).unwrap(), image);
    get(&[]).code(1).stderr(contains("ca_t.jpg exists already"));
    get(&["--force"]).code(0);

    server.state().tricks.push_back(Trick::CutInImage);
    let piped = get(&["-o", "-"]).code(0);
    assert!(piped.get_output().stdout == image);
    get(&["-o", "other.jpg"]).code(0);
    std::fs::create_dir(dir.path().join("into")).unwrap();
    get(&["-o", "into", "-q"]).code(0).stderr(is_empty());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        3,
        "nothing is left lying about"
    );
    assert!(dir.path().join("into/ca_t.jpg").exists());
}

#[test]
fn wrong_bytes_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start([]);
    let job = server.add_job("a.jpg", b"right", Some(cat())).to_string();
    server
        .state()
        .images
        .values_mut()
        .for_each(|image| *image = b"wrong".to_vec());
    imgsys(&server.address)
        .current_dir(dir.path())
        .args(["get", &job])
        .assert()
        .code(1)
        .stderr(contains("nothing was kept"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn cancel_tells_of_each_job() {
    let server = Server::start([]);
    let open = server.add_job("a.jpg", b"1", None).to_string();
    let done = server.add_job("b.jpg", b"2", Some(cat())).to_string();
    let cancelled = JobResult::failed(0, Failure::new(FailureReason::Cancelled, "by the client"));
    let twice = server.add_job("c.jpg", b"3", Some(cancelled)).to_string();
    imgsys(&server.address)
        .args(["cancel", &open, &twice])
        .assert()
        .code(0)
        .stdout(format!("{open}  cancelled\n{twice}  cancelled\n"));
    imgsys(&server.address)
        .args(["cancel", &done, "--json"])
        .assert()
        .code(1)
        .stdout(contains(
            "\"cancelled\":false,\"reason\":\"already_finished\"",
        ));
}

#[test]
fn delete_tells_of_each_job() {
    let server = Server::start([]);
    let open = server.add_job("a.jpg", b"1", None).to_string();
    let done = server.add_job("b.jpg", b"2", Some(cat())).to_string();
    imgsys(&server.address)
        .args(["delete", &done, &open])
        .assert()
        .code(1)
        .stdout(contains(format!("{done}  deleted\n")).and(contains("failed: not_finished")));
    imgsys(&server.address)
        .args(["delete", &done, "--json"])
        .assert()
        .code(1)
        .stdout(contains("\"deleted\":false,\"reason\":\"unknown_job\""));
    assert!(!stdout(&server, &["history"]).contains("b.jpg"));
}

#[test]
fn status_is_shown() {
    let server = Server::start([]);
    imgsys(&server.address)
        .arg("status")
        .assert()
        .code(0)
        .stdout(
            contains("up for       1m 01s")
                .and(contains("spool        3 jobs, 2 of them waiting for Redis"))
                .and(contains("database     does not answer")),
        );
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&server, &["status", "--json"])).unwrap();
    assert_eq!(json["queue"]["queued"], 4);
    assert_eq!(json["oldest_ms"], 1500);
}
