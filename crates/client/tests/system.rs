//! The client against the real system: server, workers, Redis, PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use imgsys_local::Stack;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::Path,
};
use support::{bitmap, imgsys, spawn_at, write};

fn bitmaps(dir: &Path, count: u32) {
    for number in 0..count {
        write(dir, &format!("{number}.bmp"), &bitmap(number));
    }
}

fn json(address: &str, args: &[&str]) -> Vec<Value> {
    let assert = imgsys(address).args(args).assert().code(0);
    let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn images_come_back_as_answers_and_as_history() {
    let stack = Stack::builder().start().unwrap();
    let address = stack.address();
    let dir = tempfile::tempdir().unwrap();
    bitmaps(dir.path(), 3);
    write(dir.path(), "text.jpg", b"this is no image");
    let path = dir.path().to_str().unwrap();
    imgsys(&address)
        .args(["send", path])
        .assert()
        .code(1)
        .stdout(contains("failed: unsupported_format"))
        .stderr(contains("3 analysed, 1 failed"));

    let jobs = json(&address, &["history", "--json", "--state", "done"]);
    assert_eq!(jobs.len(), 3);
    assert_eq!(
        json(&address, &["history", "--json", "--name", path, "--all"]).len(),
        4
    );
    let job = jobs[0]["job"].as_str().unwrap();
    let name = jobs[0]["name"].as_str().unwrap();
    imgsys(&address)
        .args(["get", job, "-o", "-"])
        .assert()
        .code(0)
        .stdout(std::fs::read(name).unwrap());
    imgsys(&address)
        .args(["show", job])
        .assert()
        .code(0)
        .stdout(contains("format      bmp"));
    imgsys(&address)
        .args(["wait", job])
        .assert()
        .code(0)
        .stdout(contains(name));
    imgsys(&address)
        .args(["cancel", job])
        .assert()
        .code(1)
        .stdout(contains("already_finished"));
    imgsys(&address)
        .arg("status")
        .assert()
        .code(0)
        .stdout(contains("database     answers"));
}

#[test]
fn queued_job_can_be_cancelled() {
    let stack = Stack::builder().workers(0).start().unwrap();
    let address = stack.address();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "a.bmp", &bitmap(1));
    let sent = json(&address, &["send", "--no-wait", "--json", &file]);
    let job = sent[0]["job"].as_str().unwrap();
    assert_eq!(sent[0]["state"], "queued");
    imgsys(&address)
        .args(["cancel", job])
        .assert()
        .code(0)
        .stdout(format!("{job}  cancelled\n"));
    imgsys(&address)
        .args(["wait", job])
        .assert()
        .code(1)
        .stdout(contains("failed: cancelled").and(contains("a.bmp")));
}

#[test]
fn urgent_image_overtakes_a_backlog() {
    let stack = Stack::builder()
        .workers(1)
        .set("server.dispatch_window", 16)
        .set("worker.threads", 1)
        .set("worker.prefetch", 1)
        .start()
        .unwrap();
    stack.workers()[0].kill();
    let address = stack.address();
    let dir = tempfile::tempdir().unwrap();
    bitmaps(dir.path(), 200);
    let backlog = dir.path().to_str().unwrap();
    json(&address, &["send", "--no-wait", "--json", backlog]);
    let elsewhere = tempfile::tempdir().unwrap();
    let urgent = write(elsewhere.path(), "urgent.bmp", &bitmap(1000));
    let urgent = ["send", "--no-wait", "--json", "--priority", "0", &urgent];
    let urgent = json(&address, &urgent)[0]["job"].clone();
    stack.workers()[0].start().unwrap();
    imgsys(&address)
        .args(["wait", urgent.as_str().unwrap()])
        .assert()
        .code(0);
    let jobs = json(&address, &["history", "--json", "--all"]);
    let end = |job: &Value| job["finished_at"].as_str().map(str::to_owned);
    let urgent = jobs.iter().find(|job| job["job"] == urgent).and_then(end);
    let before = jobs
        .iter()
        .filter_map(end)
        .filter(|at| Some(at) < urgent.as_ref());
    // Those that were in Redis when it came, and no others.
    let before = before.count();
    assert!(before <= 17, "{before} were done before it");
}

#[test]
fn server_killed_in_the_midst_is_no_trouble() {
    let stack = Stack::builder()
        .workers(2)
        .set("worker.delay", "10ms")
        .start()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    bitmaps(dir.path(), 300);
    let mut child = spawn_at(
        &stack.address(),
        &["send", "--json", dir.path().to_str().unwrap()],
    );
    let mut names = HashSet::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["state"], "done", "{line}");
        assert!(names.insert(line["name"].to_string()), "told twice: {line}");
        if names.len() == 60 || names.len() == 150 {
            stack.server().kill();
            stack.server().start().unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(names.len(), 300);
    assert_eq!(
        json(&stack.address(), &["history", "--json", "--all"]).len(),
        300
    );
}

#[test]
fn images_are_looked_at_once_more() {
    let stack = Stack::builder().start().unwrap();
    let address = stack.address();
    let dir = tempfile::tempdir().unwrap();
    bitmaps(dir.path(), 5);
    write(dir.path(), "text.jpg", b"this is no image");
    let path = dir.path().to_str().unwrap();
    imgsys(&address).args(["send", path]).assert().code(1);

    let filter = ["--analyzer", "simulated", "--except-version", "0"];
    let planned = [&["reanalyze", "--dry-run", "--json"][..], &filter].concat();
    assert_eq!(json(&address, &planned).len(), 5);
    let again = json(&address, &[&["reanalyze", "--json"][..], &filter].concat());
    assert_eq!(again.len(), 5);
    for line in &again {
        assert_eq!((&line["state"], &line["run"]), (&"done".into(), &1.into()));
    }
    let none = [
        "reanalyze",
        "--analyzer",
        "simulated",
        "--except-version",
        "1",
    ];
    imgsys(&address)
        .args(none)
        .assert()
        .code(0)
        .stderr(contains("nothing to do"));
    // One by its id, and what can't be analysed stays so.
    let job = again[0]["job"].as_str().unwrap();
    imgsys(&address)
        .args(["--quiet", "reanalyze", "--no-wait", job])
        .assert()
        .code(0)
        .stdout(format!("{job}\n"));
    imgsys(&address).args(["wait", job]).assert().code(0);
    imgsys(&address)
        .args(["reanalyze", "--state", "failed"])
        .assert()
        .code(1)
        .stdout(contains("failed: unsupported_format"));
    let nobody = "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c";
    imgsys(&address)
        .args(["reanalyze", nobody])
        .assert()
        .code(1)
        .stdout(contains("unknown_job"));

    let runs = json(&address, &["show", "--json", "--all-runs", job]);
    let runs: Vec<_> = runs
        .iter()
        .map(|line| line["run"].as_u64().unwrap())
        .collect();
    assert_eq!(runs, [2, 1, 0]);
    assert_eq!(json(&address, &["history", "--json"]).len(), 6);
    let all = json(&address, &["history", "--json", "--all-runs"]);
    assert_eq!(all.len(), 3 + 4 * 2 + 2);
    imgsys(&address)
        .args(["history", "--all-runs"])
        .assert()
        .code(0)
        .stdout(contains("run 2").and(contains("run 0")));
}

#[test]
fn a_file_is_compared_with_what_was_sent_before() {
    let stack = Stack::builder().start().unwrap();
    let address = stack.address();
    let dir = tempfile::tempdir().unwrap();
    // The same pixels, as another file: what follows the rows is not looked at.
    let mut stripes = bitmap(0);
    stripes.truncate(54);
    stripes[18..26].copy_from_slice(&[32, 0, 0, 0, 32, 0, 0, 0]);
    stripes.extend((0..32 * 32).flat_map(|at| [if at % 32 < 9 { 0 } else { 0xff }; 3]));
    let size = u32::try_from(stripes.len()).unwrap().to_le_bytes();
    stripes[2..6].copy_from_slice(&size);
    let padded = [&stripes[..], b"\0\0\0\0"].concat();
    for (name, bytes) in [
        ("a.bmp", &stripes),
        ("b.bmp", &padded),
        ("new.bmp", &bitmap(9)),
    ] {
        write(dir.path(), name, bytes);
    }
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b, new) = (path("a.bmp"), path("b.bmp"), path("new.bmp"));
    let sent = json(&address, &["send", "--json", &a, &b]);
    let jobs: Vec<&str> = sent
        .iter()
        .map(|line| line["job"].as_str().unwrap())
        .collect();

    let alike = json(&address, &["similar", "--json", &a]);
    assert_eq!(alike.len(), 1);
    assert_eq!(
        (&alike[0]["name"], &alike[0]["distance"]),
        (&b.clone().into(), &0.into())
    );
    let alike = json(&address, &["similar", "--json", jobs[0]]);
    assert!(jobs.contains(&alike[0]["job"].as_str().unwrap()) && alike[0]["job"] != jobs[0]);
    imgsys(&address)
        .args(["similar", &a])
        .assert()
        .code(0)
        .stdout(contains("DISTANCE").and(contains("b.bmp")));
    imgsys(&address)
        .args(["similar", &new])
        .assert()
        .code(1)
        .stderr(contains("new.bmp: this image is not known: send it first"));
    imgsys(&address)
        .args(["similar", "--distance", "11", &a])
        .assert()
        .code(2);
    imgsys(&address)
        .args(["similar", &path("none.bmp")])
        .assert()
        .code(1)
        .stderr(contains("none.bmp: no such file"));
}
