//! The faults that are cheap to try, each in a system of its own: the same cases as in `make
//! faults`, but for the limits of time, which only an idle machine can hold.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

use imgsys_faults::{cases::CASES, run};
use std::path::Path;

fn passes(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let report = run::run(case, 1, folder);
    assert!(report.is_well(), "{report:#?}");
    assert_eq!(report.skipped, None);
    assert_eq!(report.rows, report.sent);
}

#[test]
fn worker_killed() {
    passes("worker-kill9");
}

#[test]
fn server_killed_while_it_sends_results() {
    passes("server-sending-kill9");
}

#[test]
fn persister_killed_within_a_transaction() {
    passes("persister-batch-kill9");
}

#[test]
fn persister_killed_between_commit_and_ack() {
    passes("persister-acking-kill9");
}

#[test]
fn redis_loses_all_its_data() {
    passes("redis-new-disk");
}

#[test]
fn postgres_killed() {
    passes("postgres-kill9");
}

#[test]
fn every_connection_cut() {
    passes("cut-all");
}

#[test]
fn names_of_cases_are_unlike() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
}
