//! Images that look alike are found, all of them and no others, and only their owner's.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{Reader, Writer};
use imgsys_types::{
    Analysis, Analyzer, Digest, Failure, FailureReason, Job, JobId, JobRecord, JobResult, Outcome,
    Owner, PerceptualHash, Priority, Properties, ServerId, Timestamp,
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use support::migrated;
use tokio::runtime::Runtime;

fn anna() -> Owner {
    "anna".parse().unwrap()
}

/// A job whose image has this hash.
fn record(owner: Owner, sha256: u8, at: i64, hash: Option<u64>) -> JobRecord {
    let analysis = Analysis {
        analyzer: Analyzer {
            name: "simulated".into(),
            version: "1".into(),
            model: None,
        },
        label: "cat".into(),
        confidence: 50.0,
        scores: Vec::new(),
        properties: Properties {
            format: "bmp".into(),
            width: 1,
            height: 1,
            perceptual_hash: hash.map(PerceptualHash::from_bits),
            ..Properties::default()
        },
    };
    JobRecord {
        job: Job {
            id: JobId::generate(),
            owner,
            sha256: Digest::from_bytes([sha256; 32]),
            name: "cat.bmp".into(),
            size: 58,
            priority: Priority::default(),
            submitted_at: Timestamp::from_micros(at),
            server: ServerId::from_bytes([1; 16]),
        },
        result: Some(JobResult {
            run: 0,
            outcome: Outcome::Done(analysis),
            worker: None,
            attempts: 1,
            queued_us: 1,
            analysis_us: 1,
            finished_at: Timestamp::from_micros(at),
        }),
    }
}

/// Hashes in crowds: few of them are far from all others.
fn crowds() -> impl Strategy<Value = Vec<u64>> {
    let flips = vec(vec(0_u32..64, 0..14), 20..40);
    let crowd = (any::<u64>(), flips).prop_map(|(middle, flips)| {
        let near = flips.into_iter();
        near.map(|bits| bits.into_iter().fold(middle, |hash, bit| hash ^ 1 << bit))
            .collect::<Vec<_>>()
    });
    vec(crowd, 8..12).prop_map(|crowds| crowds.concat())
}

fn write(url: &str, records: &[JobRecord]) {
    let batch: Vec<&JobRecord> = records.iter().collect();
    let report = Writer::connect(url).unwrap().write(&batch).unwrap();
    assert!(report.conflicts.is_empty());
}

#[test]
fn what_is_within_the_distance_is_found_and_nothing_else() {
    let server = migrated();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let mut hashes = crowds().new_tree(&mut runner).unwrap().current();
    hashes.extend([0, u64::MAX, 1 << 63]);
    let mut records = Vec::new();
    for (at, &hash) in (0..).zip(&hashes) {
        records.push(record(anna(), 1, at, Some(hash)));
        // Somebody else has the very same.
        records.push(record(Owner::local(), 1, at, Some(hash)));
        records.push(record(anna(), 1, at, None));
    }
    write(&server.url(), &records);
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 2).unwrap();
    let mut found_some = 0;
    for asked in records
        .iter()
        .filter(|record| record.job.owner == anna())
        .step_by(7)
    {
        let Some(hash) = asked.perceptual_hash() else {
            continue;
        };
        for distance in 0..=PerceptualHash::MAX_DISTANCE {
            let id = asked.job.id;
            let mut expected: Vec<(u32, &JobRecord)> = records
                .iter()
                .filter(|record| record.job.owner == anna() && record.job.id != id)
                .filter_map(|record| Some((record.perceptual_hash()?.distance(hash), record)))
                .filter(|(found, _)| *found <= distance)
                .collect();
            expected.sort_by_key(|(found, record)| {
                (
                    *found,
                    std::cmp::Reverse((record.job.submitted_at, record.job.id)),
                )
            });
            found_some += expected.len();
            for limit in [3, 10_000] {
                let owner = anna();
                let found = reader.similar(&owner, hash, distance, id, limit);
                let found = runtime.block_on(found).unwrap();
                let found: Vec<_> = found.iter().map(|(near, record)| (*near, record)).collect();
                let most = expected.len().min(limit as usize);
                assert_eq!(found, expected[..most], "{hash}, {distance}");
            }
        }
    }
    assert!(found_some > 100, "{found_some}: this tests nothing");
}

#[test]
fn the_newest_run_counts() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let first = record(anna(), 1, 0, Some(7));
    write(&server.url(), std::slice::from_ref(&first));
    let found = |hash| {
        let hash = PerceptualHash::from_bits(hash);
        let owner = anna();
        let found = reader.similar(&owner, hash, 0, JobId::generate(), 9);
        runtime.block_on(found).unwrap().len()
    };
    assert_eq!((found(7), found(u64::MAX)), (1, 0));
    let mut second = record(anna(), 1, 0, Some(u64::MAX));
    second.job = first.job.clone();
    if let Some(result) = &mut second.result {
        result.run = 1;
    }
    write(&server.url(), std::slice::from_ref(&second));
    assert_eq!((found(7), found(u64::MAX)), (0, 1));
    if let Some(result) = &mut second.result {
        result.run = 2;
        result.outcome = Outcome::Failed(Failure::new(FailureReason::Corrupt, "no"));
    }
    write(&server.url(), std::slice::from_ref(&second));
    assert_eq!((found(7), found(u64::MAX)), (0, 0));
}

#[test]
fn what_is_deleted_is_neither_found_nor_known() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let gone = record(anna(), 1, 1, Some(7));
    write(&server.url(), std::slice::from_ref(&gone));
    let (owner, hash) = (anna(), PerceptualHash::from_bits(7));
    let erased = runtime.block_on(reader.erase(&owner, gone.job.id));
    assert!(erased.unwrap());
    let found = reader.similar(&owner, hash, 10, JobId::generate(), 9);
    assert_eq!(runtime.block_on(found).unwrap(), []);
    let known = reader.of_image(&owner, &gone.job.sha256);
    assert_eq!(runtime.block_on(known).unwrap(), None);
    let mut client = imgsys_history::connect(&server.url()).unwrap();
    let kept = client.query_one("SELECT perceptual_hash IS NULL FROM jobs", &[]);
    assert!(kept.unwrap().get::<_, bool>(0));
}

#[test]
fn an_image_is_known_by_its_digest_to_its_owner_only() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let old = record(anna(), 1, 1, Some(1));
    let new = record(anna(), 1, 2, Some(1));
    let without = record(anna(), 1, 3, None);
    let other = record(Owner::local(), 2, 3, Some(1));
    write(&server.url(), &[old, new.clone(), without, other.clone()]);
    let of = |owner: Owner, sha256| {
        let sha256 = Digest::from_bytes([sha256; 32]);
        runtime.block_on(reader.of_image(&owner, &sha256)).unwrap()
    };
    assert_eq!(of(anna(), 1), Some(new));
    assert_eq!(of(anna(), 2), None);
    assert_eq!(of(Owner::local(), 2), Some(other));
}
