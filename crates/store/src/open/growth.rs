//! A log grows over many segments: what is needed stays, the rest goes, whenever the process dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    tests::{job_of, options},
    *,
};
use crate::{Accepted, Image};
use bytes::Bytes;
use imgsys_types::{Failure, FailureReason, Job, JobId, JobResult};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

const SMALL: Tuning = Tuning {
    segment: 8 << 10,
    gather: 40,
};

fn open(dir: &Path) -> Store {
    let options = StoreOptions {
        durability: Durability::None,
        ..options(dir)
    };
    let backend = |file| FileBackend::new(file).map_err(database(OPENING));
    Store::open_on(options, SMALL, backend, |disk| Arc::new(disk)).unwrap()
}

fn image(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

async fn accept(store: &Store, number: u64) -> Job {
    let bytes = image(number);
    let job = job_of(&bytes);
    let accepted = store.accept(job.clone(), Image::Bytes(Bytes::from(bytes)));
    assert!(matches!(accepted.await.unwrap(), Accepted::New { .. }));
    job
}

async fn end(store: &Store, job: JobId) -> JobResult {
    let failure = Failure::new(FailureReason::Corrupt, job.to_string());
    let result = JobResult::failed(0, failure);
    let stands = store.set_result(job, result.clone()).await.unwrap();
    stands.unwrap()
}

/// The length of the log, in bytes, and of how many segments it is.
fn log_of(dir: &Path) -> (u64, usize) {
    let segments = fs::read_dir(dir.join("spool")).unwrap();
    // A segment may go while they are listed.
    let lengths = segments.filter_map(|segment| match segment.unwrap().metadata() {
        Ok(file) => Some(file.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    });
    let lengths: Vec<u64> = lengths.collect();
    (lengths.iter().sum(), lengths.len())
}

/// A record of these tests' jobs is shorter than this.
const RECORD: u64 = 300;

#[tokio::test]
async fn a_log_stays_short_while_a_few_old_jobs_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut old = BTreeMap::new();
    let mut number = 0;
    let mut most = 0;
    for round in 0..600_u64 {
        if round % 30 == 0 {
            number += 1;
            let job = accept(&store, number).await;
            let result = match round % 60 {
                0 => Some(end(&store, job.id).await),
                _ => None,
            };
            old.insert(job.id, (job, result));
        }
        let mut passing = Vec::new();
        for _ in 0..4 {
            number += 1;
            passing.push(accept(&store, number).await.id);
        }
        for job in &passing {
            end(&store, *job).await;
        }
        store.remove(passing);
        if round % 50 == 0 {
            store.close().await;
            store = open(dir.path());
        }
        most = most.max(log_of(dir.path()).0);
    }
    store.flush().await.unwrap();
    // What is needed, twice over, and as much again while it is carried; and some segments.
    let bound = 4 * 2 * RECORD * old.len() as u64 + 10 * SMALL.segment;
    assert!(most <= bound, "{most} of {bound} bytes");
    let written = 2 * RECORD / 2 * number;
    assert!(written > 4 * bound, "only {written} bytes were written");
    for opened in 0..2 {
        for (id, (job, result)) in &old {
            let found = store.get(*id).unwrap().unwrap();
            assert_eq!((&found.run.job, &found.result), (job, result));
        }
        assert_eq!(store.len(), old.len(), "opened {opened} times");
        // All images are known, long after what the log said of them is gone.
        for number in 1..=number {
            let job = job_of(&image(number));
            assert!(
                store.knows(&job.owner, &job.sha256).unwrap(),
                "image {number}"
            );
        }
        store.close().await;
        store = open(dir.path());
    }
}

const DIR: &str = "IMGSYS_STORE_TEST_DIR";
const SEED: &str = "IMGSYS_STORE_TEST_SEED";
/// What a line of the child's begins with, among those of the test program.
const MARK: char = '@';

fn say(what: &str, job: &Job, number: u64) {
    let line = format!("{MARK}{what} {} {number}\n", job.id);
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The child: accepts, ends and removes without end, and leaves some. It says what before it removes
/// and after it is done.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = open(dir.as_ref());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let life = async |lane: u64| {
        for round in 0.. {
            let number = seed << 32 | lane << 24 | round;
            let job = accept(&store, number).await;
            say("accepted", &job, number);
            if round % 3 > 0 {
                end(&store, job.id).await;
                say("ended", &job, number);
            }
            if round % 20 > 0 {
                say("removing", &job, number);
                store.remove(vec![job.id]);
            }
        }
    };
    runtime.block_on(async {
        tokio::join!(life(0), life(1), life(2), life(3));
    });
}

/// Runs the child, kills it once it has said this many lines, returns all that it said.
fn killed_after(lines: u64, dir: &Path, seed: u64) -> Vec<(String, JobId, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "open::growth::child", "--nocapture"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, words)) = line.split_once(MARK)
            && line.ends_with('\n')
        {
            let words: Vec<&str> = words.split_whitespace().collect();
            let (id, number) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            said.push((words[0].to_owned(), id, number));
            if said.len() as u64 == lines {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child ended by itself: {status}");
    said
}

#[test]
fn nothing_is_lost_by_kill_9_while_segments_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut jobs: BTreeMap<JobId, bool> = BTreeMap::new();
    let (mut going, mut images) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..12 {
        for (what, id, number) in killed_after(30 + seed * 90, dir.path(), seed) {
            match what.as_str() {
                "accepted" => {
                    jobs.insert(id, false);
                    images.insert(number);
                }
                "ended" => {
                    jobs.insert(id, true);
                }
                "removing" => {
                    going.insert(id);
                }
                other => panic!("{other}"),
            }
        }
        let store = open(dir.path());
        let mut there = BTreeSet::new();
        let unreadable = store.records(|record| {
            there.insert(record.run.job.id);
        });
        assert_eq!((unreadable.unwrap(), there.len()), (0, store.len()));
        for (id, ended) in &jobs {
            let found = store.get(*id).unwrap();
            assert_eq!(found.is_some(), there.contains(id));
            assert!(
                found.is_some() || going.contains(id),
                "lost {id} in round {seed}"
            );
            if let Some(found) = found {
                assert!(found.has_ended() || !ended);
                let detail = found.result.map(|result| result.outcome);
                let failure = Failure::new(FailureReason::Corrupt, id.to_string());
                let expected = imgsys_types::Outcome::Failed(failure);
                assert!(detail.is_none_or(|outcome| outcome == expected));
            }
        }
        for number in &images {
            let job = job_of(&image(*number));
            assert!(store.knows(&job.owner, &job.sha256).unwrap());
        }
        // What was on its way out when the child died may be done away with now.
        let left = there.intersection(&going).copied().collect();
        store.remove(left);
        drop(store);
    }
    let first = fs::read_dir(dir.path().join("spool")).unwrap();
    let first = first.map(|segment| segment.unwrap().file_name()).min();
    assert!(first.unwrap() > *"0000000003.log", "no segment was deleted");
    let (length, _) = log_of(dir.path());
    let kept = jobs.len() - going.len();
    let bound = 4 * 2 * RECORD * kept as u64 + 10 * SMALL.segment;
    assert!(length <= bound, "{length} of {bound} bytes");
}
