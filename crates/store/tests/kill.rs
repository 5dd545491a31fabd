//! `kill -9` at any moment loses nothing that was accepted and leaves nothing half done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{digest, job, noise, options, result};
use imgsys_store::{Accepted, Durability, Image, Store};
use imgsys_types::{Digest, JobId, Owner};
use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

const DIR: &str = "IMGSYS_STORE_TEST_DIR";
const SEED: &str = "IMGSYS_STORE_TEST_SEED";
const ROUNDS: u64 = 24;
/// What a line of the child's begins with, among those of the test program.
const MARK: char = '@';

fn durability(seed: u64) -> Durability {
    match seed % 2 {
        0 => Durability::Fsync,
        _ => Durability::None,
    }
}

/// Sizes below and above what is written by the committer itself.
fn image(seed: u64) -> Vec<u8> {
    noise(seed, [10_000, 300, 65_536, 150_000][(seed % 4) as usize])
}

fn say(line: &str) {
    let line = format!("{MARK}{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The child: accepts without end, and says what before it begins and after it is done.
async fn accept_without_end(store: Store, lane: u64) {
    for round in 0.. {
        let image = image(lane << 32 | round);
        let job = job(&image);
        say(&format!("began {} {}", job.id, job.sha256));
        let mut upload = store.upload().unwrap();
        for piece in image.chunks(20_000) {
            upload.write(piece).await.unwrap();
        }
        let upload = Image::Upload(upload);
        let accepted = store.accept(job.clone(), upload).await.unwrap();
        assert!(matches!(accepted, Accepted::New { .. }));
        say(&format!("accepted {} {}", job.id, job.sha256));
        if round % 3 == 1 {
            let detail = job.id.to_string();
            store.set_result(job.id, result(&detail)).await.unwrap();
            say(&format!("finished {} {}", job.id, job.sha256));
        }
    }
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = Store::open(options(dir.as_ref(), durability(seed))).unwrap();
    say("opened - -");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let lanes = (0..8).map(|lane| {
            let lane = accept_without_end(store.clone(), seed << 8 | lane);
            tokio::spawn(lane)
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
    });
}

/// Runs the child, kills it once it has said this many lines, returns all that it said.
fn killed_after(lines: u64, dir: &Path, seed: u64) -> Vec<(String, String, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
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
            let mut words = words.split_whitespace().map(String::from);
            let mut word = || words.next().unwrap();
            said.push((word(), word(), word()));
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

fn has_whole_image(store: &Store, sha256: &Digest) -> bool {
    fs::read(store.image_path(sha256)).is_ok_and(|bytes| digest(&bytes) == *sha256)
}

#[test]
fn nothing_accepted_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Owner::local();
    let mut accepted: HashMap<JobId, Digest> = HashMap::new();
    let mut finished = Vec::new();
    for seed in 0..ROUNDS {
        // From the first line, when the store has only just opened, to hundreds of them.
        let lines = 1 + seed * seed * 2;
        let mut begun = Vec::new();
        for (what, id, sha256) in killed_after(lines, dir.path(), seed) {
            match what.as_str() {
                "opened" => {}
                "began" => begun.push(sha256.parse::<Digest>().unwrap()),
                "accepted" => {
                    accepted.insert(id.parse().unwrap(), sha256.parse().unwrap());
                }
                "finished" => finished.push(id.parse::<JobId>().unwrap()),
                other => panic!("{other}"),
            }
        }
        let store = Store::open(options(dir.path(), durability(seed))).unwrap();
        for (id, sha256) in &accepted {
            let record = store.get(*id).unwrap().unwrap();
            assert_eq!(record.run.job.sha256, *sha256);
            assert!(store.knows(&owner, sha256).unwrap());
        }
        for sha256 in &begun {
            assert!(!store.knows(&owner, sha256).unwrap() || has_whole_image(&store, sha256));
        }
        let mut spooled = 0;
        let unreadable = store.records(|record| {
            spooled += 1;
            assert!(has_whole_image(&store, &record.run.job.sha256));
        });
        assert_eq!((unreadable.unwrap(), spooled), (0, store.len()));
        for id in &finished {
            let result = store.get(*id).unwrap().unwrap().result;
            assert!(result.is_some());
        }
        let incoming = store.images_dir().join("incoming");
        assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
    }
    assert!(
        accepted.len() > 500,
        "only {} were accepted",
        accepted.len()
    );
}
