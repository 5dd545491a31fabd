//! A store of the time before there was a log is taken over, whenever that is cut short.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::{
    Accepted, Durability, Image, Store, StoreOptions,
    open::tests::{job_of, options},
};
use imgsys_types::{Failure, FailureReason, JobRecord, Owner, ServerId};
use redb::Database;
use serde::Serialize;
use std::{fs, path::Path};

#[derive(Serialize)]
struct OldValue<'a> {
    job: &'a Job,
    result: Option<&'a JobResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun: Option<OldRerun>,
}

#[derive(Serialize)]
struct OldRerun {
    number: u32,
    priority: Priority,
    accepted_at: Timestamp,
}

fn old_key(job: &Job) -> Vec<u8> {
    let time = (job.submitted_at.as_micros() ^ i64::MIN).to_be_bytes();
    [
        job.owner.as_str().as_bytes(),
        &[0],
        &time,
        job.id.as_bytes(),
    ]
    .concat()
}

fn old_value(spooled: &Spooled) -> Vec<u8> {
    let run = &spooled.run;
    let value = OldValue {
        job: &run.job,
        result: spooled.result.as_ref(),
        rerun: (run.number > 0).then_some(OldRerun {
            number: run.number,
            priority: run.priority,
            accepted_at: run.accepted_at,
        }),
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).unwrap();
    bytes
}

const SERVER: [u8; 16] = [9; 16];
const SPENT: TableDefinition<'_, &str, (i64, u64)> = TableDefinition::new("spent");

/// Writes what the store of that time wrote: these jobs, those whose image the last commit flushed
/// named as such, and what was known of their images.
fn write_old(dir: &Path, jobs: &[Spooled], unproven: &[&Spooled]) {
    let database = Database::create(dir.join("spool.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut spool = write.open_table(OLD).unwrap();
        let mut known = write.open_table(KNOWN).unwrap();
        let mut meta = write.open_table(META).unwrap();
        let mut spent = write.open_table(SPENT).unwrap();
        for spooled in jobs {
            let job = &spooled.run.job;
            let (key, value) = (old_key(job), old_value(spooled));
            spool.insert(key.as_slice(), value.as_slice()).unwrap();
            let key = tables::known_key(&job.sha256, &job.owner);
            known.insert(key.as_slice(), job.size).unwrap();
        }
        meta.insert("server", SERVER.as_slice()).unwrap();
        let mut keys = Vec::new();
        for spooled in unproven {
            let key = old_key(&spooled.run.job);
            keys.push(u8::try_from(key.len()).unwrap());
            keys.extend(key);
        }
        meta.insert(UNPROVEN, keys.as_slice()).unwrap();
        spent.insert("local", (20_000, 77)).unwrap();
    }
    write.commit().unwrap();
}

fn images_of(dir: &Path, job: &Job) -> std::path::PathBuf {
    let name = job.sha256.to_string();
    dir.join("images").join(&name[..2]).join(name)
}

/// Jobs without a result, with one, and in a later run, of two owners; and their images.
fn jobs(dir: &Path) -> Vec<Spooled> {
    let failed = |run| {
        let mut result = JobResult::failed(run, Failure::new(FailureReason::Corrupt, "no image"));
        result.worker = Some("worker".into());
        result
    };
    let mut jobs = Vec::new();
    for number in 0..300_u32 {
        let bytes = number.to_le_bytes();
        let mut job = job_of(&bytes);
        if number % 2 == 0 {
            job.owner = "anna".parse::<Owner>().unwrap();
        }
        job.submitted_at = Timestamp::from_micros(i64::from(number % 7) - 3);
        let path = images_of(dir, &job);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        let mut run = Run::submission(job);
        let result = match number % 4 {
            0 => None,
            1 => Some(failed(0)),
            rest => {
                run.number = 2;
                run.priority = Priority::new(9).unwrap();
                run.accepted_at = Timestamp::from_micros(5);
                // In one of two it has ended too.
                Some(failed(if rest == 2 { 1 } else { 2 }))
            }
        };
        jobs.push(Spooled { run, result });
    }
    jobs
}

fn open(dir: &Path) -> Store {
    Store::open(StoreOptions {
        durability: Durability::None,
        ..options(dir)
    })
    .unwrap()
}

async fn check(store: &Store, jobs: &[Spooled]) {
    assert_eq!(store.len(), jobs.len());
    for spooled in jobs {
        let job = &spooled.run.job;
        assert_eq!(store.get(job.id).unwrap().as_ref(), Some(spooled));
        assert!(store.knows(&job.owner, &job.sha256).unwrap());
    }
    let mut records = Vec::new();
    assert_eq!(
        store
            .records(|spooled| records.push(spooled.into_record()))
            .unwrap(),
        0
    );
    let mut expected = jobs.to_vec();
    expected.sort_by_key(|spooled| old_key(&spooled.run.job));
    let expected: Vec<JobRecord> = expected.into_iter().map(Spooled::into_record).collect();
    assert_eq!(records, expected);
    assert_eq!(store.server_id(), ServerId::from_bytes(SERVER));
    assert_eq!(
        store.spent().unwrap(),
        [("local".parse().unwrap(), 20_000, 77)]
    );
    // A result of a run that has ended changes nothing; the others end.
    for spooled in jobs.iter().take(8) {
        let run = &spooled.run;
        let result = JobResult::failed(run.number, Failure::new(FailureReason::Timeout, ""));
        let stands = store.set_result(run.job.id, result.clone()).await.unwrap();
        assert_eq!(stands, Some(spooled.end().cloned().unwrap_or(result)));
    }
}

#[tokio::test]
async fn a_store_of_the_time_before_the_log_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    write_old(dir.path(), &jobs, &[]);
    let store = open(dir.path());
    check(&store, &jobs).await;
    let again = store
        .accept(job_of(&1_u32.to_le_bytes()), Image::Known)
        .await;
    assert!(matches!(
        again.unwrap(),
        Accepted::New {
            duplicate: true,
            ..
        }
    ));
    store.close().await;
    // It is not taken over twice, and the old program does not take what is left for a spool.
    let database = Database::create(dir.path().join("spool.redb")).unwrap();
    let write = database.begin_write().unwrap();
    assert!(!is_old(&write).unwrap());
    assert!(matches!(
        write.open_table(OLD),
        Err(TableError::TableTypeMismatch { .. })
    ));
    drop(write);
    drop(database);
    assert_eq!(open(dir.path()).len(), jobs.len() + 1);
}

#[tokio::test]
async fn taking_over_may_be_cut_short_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    write_old(dir.path(), &jobs, &[]);
    let old = fs::read(dir.path().join("spool.redb")).unwrap();
    drop(open(dir.path()));
    let segment = dir.path().join("spool/0000000001.log");
    let log = fs::read(&segment).unwrap();
    for part in [0, 1, 40, log.len() / 2, log.len()] {
        // The table is still there, and a part of the log already.
        fs::write(dir.path().join("spool.redb"), &old).unwrap();
        for segment in fs::read_dir(dir.path().join("spool")).unwrap() {
            fs::remove_file(segment.unwrap().path()).unwrap();
        }
        fs::write(&segment, &log[..part]).unwrap();
        for _ in 0..2 {
            let store = open(dir.path());
            assert_eq!(store.len(), jobs.len());
            for spooled in &jobs {
                let found = store.get(spooled.run.job.id).unwrap();
                assert_eq!(found.as_ref(), Some(spooled));
            }
            assert!(!segment.exists());
            drop(store);
        }
    }
}

#[tokio::test]
async fn jobs_whose_image_never_reached_the_disk_are_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path());
    // Of the last commit: one image is whole and two are not. That of another commit is none of its
    // business.
    write_old(dir.path(), &jobs, &[&jobs[0], &jobs[4], &jobs[8]]);
    for harmed in [0, 8, 12] {
        fs::write(images_of(dir.path(), &jobs[harmed].run.job), b"half").unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.len(), jobs.len() - 2);
    for (number, spooled) in jobs.iter().enumerate() {
        let there = store.get(spooled.run.job.id).unwrap();
        assert_eq!(there.is_some(), ![0, 8].contains(&number), "job {number}");
    }
    let job = &jobs[0].run.job;
    assert!(!store.knows(&job.owner, &job.sha256).unwrap());
    assert!(!images_of(dir.path(), job).exists());
}
