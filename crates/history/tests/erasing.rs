//! What is erased is gone, and does not come back by events that come late or again.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{Reader, Writer, connect};
use imgsys_types::{
    Analysis, Analyzer, Digest, Exif, Failure, FailureReason, HistoryFilter, Job, JobId, JobRecord,
    JobResult, Outcome, Owner, Priority, Properties, Scalar, Score, ServerId, Timestamp,
};
use std::time::Duration;
use support::{eventually, migrated};
use tokio::runtime::Runtime;

const SECRET: &str = "Aunt Emma";

fn job() -> Job {
    Job {
        id: JobId::generate(),
        owner: Owner::local(),
        sha256: Digest::from_bytes([7; 32]),
        name: SECRET.into(),
        size: 1,
        priority: Priority::default(),
        submitted_at: Timestamp::now(),
        server: ServerId::from_bytes([1; 16]),
    }
}

/// A job's run that tells more than it should.
fn done(job: &Job, run: u32) -> JobRecord {
    let secret = || SECRET.to_owned();
    let analysis = Analysis {
        analyzer: Analyzer {
            name: "simulated".into(),
            version: "1".into(),
            model: None,
        },
        label: secret(),
        confidence: 50.0,
        scores: vec![Score {
            label: secret(),
            confidence: 50.0,
        }],
        properties: Properties {
            format: "jpeg".into(),
            width: 4,
            height: 3,
            thumb_hash: Some(secret()),
            exif: Some(Exif {
                camera: Some(secret()),
                ..Exif::default()
            }),
            flags: vec![secret()],
            extra: [(secret(), Scalar::Text(secret()))].into(),
            ..Properties::default()
        },
    };
    let failed = JobResult::failed(run, Failure::new(FailureReason::Corrupt, SECRET));
    let outcome = if run.is_multiple_of(2) {
        Outcome::Done(analysis)
    } else {
        failed.outcome.clone()
    };
    JobRecord {
        job: job.clone(),
        result: Some(JobResult { outcome, ..failed }),
    }
}

/// All that the tables say of a job.
fn told(client: &mut postgres::Client, job: &Job) -> String {
    let row = client.query_one(
        "SELECT row_to_json(j)::text || coalesce(
             (SELECT string_agg(row_to_json(p)::text, ' ' ORDER BY run) FROM predictions p
              WHERE job_id = j.id), '') FROM jobs j WHERE id = $1",
        &[&job.id.uuid()],
    );
    row.unwrap().get(0)
}

fn write(writer: &mut Writer, records: &[JobRecord]) {
    let records: Vec<&JobRecord> = records.iter().collect();
    assert!(writer.write(&records).unwrap().conflicts.is_empty());
}

#[test]
fn what_is_personal_goes_and_never_comes_back() {
    let server = migrated();
    let mut client = connect(&server.url()).unwrap();
    let mut writer = Writer::connect(&server.url()).unwrap();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let (kept, gone) = (job(), job());
    let runs: Vec<JobRecord> = (1..4).map(|run| done(&gone, run)).collect();
    write(&mut writer, &runs);
    write(&mut writer, &[done(&kept, 0)]);
    let queued = JobRecord {
        job: job(),
        result: None,
    };
    write(&mut writer, std::slice::from_ref(&queued));

    let owner = Owner::local();
    let erase = |owner: &Owner, job: &Job| runtime.block_on(reader.erase(owner, job.id)).unwrap();
    assert!(!erase(&"ann".parse().unwrap(), &gone), "another's");
    assert!(!erase(&owner, &queued.job), "it has not ended");
    assert!(!erase(&owner, &job()), "unknown");
    assert!(erase(&owner, &gone));
    let after = told(&mut client, &gone);
    assert!(!after.contains(SECRET), "{after}");
    // The same again, the submission's result late, and a run nobody has heard of.
    write(&mut writer, &runs);
    write(&mut writer, &[done(&gone, 0)]);
    write(&mut writer, &[done(&gone, 4)]);
    // Nor another result that a client was told, to which others give way.
    let _ = writer.write_told(&[&done(&gone, 3)], &[0]).unwrap();
    assert_eq!(told(&mut client, &gone), after);
    assert!(erase(&owner, &gone), "twice is once");
    assert_eq!(told(&mut client, &gone), after);

    runtime.block_on(async {
        let all = HistoryFilter::default();
        let page = reader
            .page(&owner.clone().into(), &all, None, 10)
            .await
            .unwrap();
        let mut shown: Vec<JobId> = page.iter().map(|record| record.job.id).collect();
        shown.sort();
        assert_eq!(shown, [kept.id, queued.job.id]);
        let ids = [kept.id, gone.id];
        assert_eq!(
            reader.get(&ids).await.unwrap(),
            [done_as_read(&page, kept.id)]
        );
        assert_eq!(reader.runs(gone.id, None, 10).await.unwrap(), []);
        let mut both = reader.get_with_deleted(&ids).await.unwrap();
        both.retain(|record| record.job.id == gone.id);
        let result = both.remove(0).result.unwrap();
        assert_eq!(result.run, 3);
        assert!(
            matches!(&result.outcome, Outcome::Failed(f) if f.reason == FailureReason::Deleted)
        );
        // Both have the same image.
        let (image, here) = ([gone.sha256], gone.server);
        let elsewhere = ServerId::from_bytes([2; 16]);
        assert_eq!(reader.needed(here, &image).await.unwrap(), image.into());
        assert!(reader.needed(elsewhere, &image).await.unwrap().is_empty());
        let hour = Duration::from_secs(3600);
        let deleted = reader.deleted_images(here, hour).await.unwrap();
        assert_eq!(deleted, image.into());
        let deleted = reader.deleted_images(here, Duration::ZERO).await.unwrap();
        assert!(deleted.is_empty());
        for job in [kept.id, queued.job.id] {
            reader.erase(&owner, job).await.unwrap();
        }
        assert_eq!(
            reader.needed(here, &image).await.unwrap(),
            image.into(),
            "queued"
        );
    });
}

fn done_as_read(page: &[JobRecord], id: JobId) -> JobRecord {
    let found = page.iter().find(|record| record.job.id == id);
    found.unwrap().clone()
}

#[test]
fn a_run_written_in_the_same_moment_is_erased_too() {
    let server = migrated();
    let mut client = connect(&server.url()).unwrap();
    let mut writer = Writer::connect(&server.url()).unwrap();
    let job = job();
    write(&mut writer, &[done(&job, 0)]);
    // A persister that has locked the row and not committed yet.
    let mut persister = connect(&server.url()).unwrap();
    let mut transaction = persister.transaction().unwrap();
    let id = job.id.uuid();
    transaction
        .execute("UPDATE jobs SET run = 2 WHERE id = $1", &[&id])
        .unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let erasing = std::thread::spawn(move || {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(reader.erase(&Owner::local(), id.into()))
    });
    eventually("it waits for the row", || {
        let row = client.query_one(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
            &[],
        );
        row.unwrap().get::<_, i64>(0) > 0
    });
    let copied = transaction.execute(
        "INSERT INTO predictions SELECT (p).* FROM (
             SELECT jsonb_populate_record(p, '{\"run\": 2}') AS p FROM predictions p) AS q",
        &[],
    );
    assert_eq!(copied.unwrap(), 1);
    transaction.commit().unwrap();
    assert!(erasing.join().unwrap().unwrap());
    let after = told(&mut client, &job);
    assert!(
        after.contains("\"run\":2") && !after.contains(SECRET),
        "{after}"
    );
}
