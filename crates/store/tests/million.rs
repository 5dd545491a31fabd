//! A spool of a million jobs opens fast and in little memory.
//!
//! `cargo test -p imgsys-store --test million -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{job, open};
use imgsys_store::{Image, Store};
use imgsys_types::JobId;
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

const JOBS: usize = 1_000_000;
const DIR: &str = "IMGSYS_STORE_TEST_DIR";

/// The most memory this process has had, in MB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kb / 1024
}

/// This thread's time on a processor: what a busy machine does not stretch.
fn on_cpu() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// The child: opens the store, walks over it, tells what that took.
#[test]
#[ignore = "a part of the other test"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let start = Instant::now();
    let store = open(dir.as_ref());
    let (opened, opening) = (start.elapsed(), on_cpu());
    let mut count = 0;
    store.records(|_| count += 1).unwrap();
    let (all, cpu) = (start.elapsed(), on_cpu());
    let memory = peak_memory();
    println!(
        "opened in {opened:.2?} ({opening:.2?} on the CPU), walked in {all:.2?} ({cpu:.2?} on the CPU), \
         {memory} MB at most"
    );
    assert_eq!((count, store.len()), (JOBS, JOBS));
    assert!(opening < Duration::from_secs(1));
    assert!(cpu < Duration::from_secs(5));
    assert!(memory <= 100);
    // No orderly end: the next opening has to check everything.
    std::process::abort();
}

async fn fill(store: &Store) {
    let first = job(b"an image");
    let image = Image::Bytes(b"an image".as_slice().into());
    store.accept(first.clone(), image).await.unwrap();
    let lanes = (0..500).map(|lane| {
        let (store, first) = (store.clone(), first.clone());
        tokio::spawn(async move {
            for number in (1..JOBS).skip(lane).step_by(500) {
                let mut job = first.clone();
                job.id = JobId::generate();
                job.name = format!("holidays/2025/IMG_{number:08}.jpg");
                store.accept(job, Image::Known).await.unwrap();
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_million_jobs_open_within_a_second_and_100_mb() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let store = open(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        fill(&store).await;
        store.close().await;
    });
    let segments = fs::read_dir(dir.path().join("spool")).unwrap();
    let size: u64 = segments
        .map(|segment| segment.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "filled in {:.2?}, {} MB on disk",
        start.elapsed(),
        size >> 20
    );
    for how in ["after an orderly end", "after a crash"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--ignored"])
            .env(DIR, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let figures = said.lines().find(|line| line.contains("opened in"));
        println!("{how}: {}", figures.unwrap());
        assert!(!said.contains("FAILED"), "{said}");
    }
}
