//! Whatever comes, in whatever order and however often, becomes the same rows.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{Reader, WriteError, WriteReport, Writer, connect};
use imgsys_types::{
    Digest, Failure, FailureReason, Job, JobId, JobRecord, JobResult, MAX_NAME, Owner, Timestamp,
    arbitrary, clean_name,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    thread,
};
use support::{eventually, migrated, superuser};
use tokio::runtime::Runtime;

/// The record as PostgreSQL can hold it; found another way than the program does it.
fn storable(record: &JobRecord) -> JobRecord {
    // Every text of a record is a string of its JSON, keys included, and U+0000 is escaped there;
    // a backslash that stands for itself is two.
    let json = serde_json::to_string(record).unwrap();
    let parts: Vec<_> = json.split(r"\\").collect();
    let json = parts
        .iter()
        .map(|part| part.replace(r"\u0000", "\u{fffd}"))
        .collect::<Vec<_>>()
        .join(r"\\");
    let mut record: JobRecord = serde_json::from_str(&json).unwrap();
    let count = |n: &mut u64| *n = (*n).min(i64::MAX.unsigned_abs());
    let time = |t: &mut Timestamp| {
        *t = (*t).max(Timestamp::from_micros(-209_920_118_400_000_000));
    };
    record.job.name = clean_name(&record.job.name);
    count(&mut record.job.size);
    time(&mut record.job.submitted_at);
    if let Some(result) = &mut record.result {
        count(&mut result.queued_us);
        count(&mut result.analysis_us);
        time(&mut result.finished_at);
    }
    record
}

fn refs(records: &[JobRecord]) -> Vec<&JobRecord> {
    records.iter().collect()
}

fn get(url: &str, ids: &[JobId]) -> BTreeMap<JobId, JobRecord> {
    let runtime = Runtime::new().unwrap();
    let found = runtime.block_on(async { Reader::new(url, 1).unwrap().get(ids).await });
    let found = found.unwrap().into_iter();
    found.map(|record| (record.job.id, record)).collect()
}

/// One value of a strategy.
fn sample<S: Strategy>(strategy: &S) -> S::Value {
    let mut runner = TestRunner::default();
    strategy.new_tree(&mut runner).unwrap().current()
}

fn cases(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn any_record_is_read_as_it_was_written() {
    let server = migrated();
    let writer = RefCell::new(Writer::connect(&server.url()).unwrap());
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 2).unwrap();
    let batch = vec(arbitrary::job_record(), 1..20);
    cases(100)
        .run(&batch, |mut records| {
            let mut ids = BTreeSet::new();
            records.retain(|record| ids.insert(record.job.id));
            // Each case is new to the database, the shrunken ones too.
            for record in &mut records {
                record.job.id = JobId::generate();
            }
            let report = writer.borrow_mut().write(&refs(&records)).unwrap();
            prop_assert!(report.conflicts.is_empty());
            let ids: Vec<_> = records.iter().map(|record| record.job.id).collect();
            let mut found = runtime.block_on(reader.get(&ids)).unwrap();
            found.sort_by_key(|record| record.job.id);
            let mut expected: Vec<_> = records.iter().map(storable).collect();
            expected.sort_by_key(|record| record.job.id);
            prop_assert_eq!(found, expected);
            Ok(())
        })
        .unwrap();
}

/// The events of a job: accepted, and a result for each of some runs.
fn events(job: &Job, results: &[JobResult]) -> Vec<JobRecord> {
    let event = |result| JobRecord {
        job: job.clone(),
        result,
    };
    let runs = (0_u32..).zip(results).map(|(run, result)| {
        event(Some(JobResult {
            run,
            ..result.clone()
        }))
    });
    runs.chain([event(None)]).collect()
}

/// What the rows of these events are to be: the newest result of each job, and its runs.
fn expected(events: &[JobRecord]) -> BTreeMap<JobId, (JobRecord, BTreeSet<u32>)> {
    let mut jobs: BTreeMap<JobId, (JobRecord, BTreeSet<u32>)> = BTreeMap::new();
    let run = |record: &JobRecord| record.result.as_ref().map(|result| result.run);
    for event in events {
        let (newest, runs) = jobs
            .entry(event.job.id)
            .or_insert_with(|| (storable(event), BTreeSet::new()));
        runs.extend(run(event));
        if run(event) > run(newest) {
            *newest = storable(event);
        }
    }
    jobs
}

fn found(url: &str, ids: &[JobId]) -> BTreeMap<JobId, (JobRecord, BTreeSet<u32>)> {
    let mut client = connect(url).unwrap();
    let runs_of = |id: JobId| {
        let rows = connect(url)
            .unwrap()
            .query(
                "SELECT run FROM predictions WHERE job_id = $1",
                &[&id.uuid()],
            )
            .unwrap();
        rows.iter()
            .map(|row| u32::try_from(row.get::<_, i64>(0)).unwrap())
            .collect()
    };
    let jobs = get(url, ids).into_iter();
    let jobs = jobs
        .map(|(id, record)| (id, (record, runs_of(id))))
        .collect();
    // The columns that repeat the newest prediction do so, always.
    let astray: i64 = client
        .query_one(
            "SELECT count(*) FROM jobs j LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             WHERE j.run IS DISTINCT FROM (SELECT max(run) FROM predictions WHERE job_id = j.id)
                OR j.run IS NOT NULL AND (j.state, j.finished_at) <> (p.state, p.finished_at)
                OR j.label IS DISTINCT FROM p.label OR j.confidence IS DISTINCT FROM p.confidence",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(astray, 0);
    jobs
}

/// Some jobs' events, and an order in which they come: places, some twice, some never.
fn shuffled() -> impl Strategy<Value = Vec<Vec<JobRecord>>> {
    let jobs = vec((arbitrary::job(), vec(arbitrary::job_result(), 0..3)), 1..5);
    let order = vec((any::<Index>(), any::<bool>()), 1..30);
    (jobs, order).prop_map(|(jobs, order)| {
        let events: Vec<_> = jobs
            .into_iter()
            .flat_map(|(job, results)| {
                let id = JobId::generate();
                events(&Job { id, ..job }, &results)
            })
            .collect();
        let mut batches = vec![Vec::new()];
        for (place, ends) in order {
            let batch = batches.last_mut().unwrap();
            batch.push(place.get(&events).clone());
            if ends {
                batches.push(Vec::new());
            }
        }
        batches
    })
}

#[test]
fn any_order_of_events_makes_the_same_rows() {
    let server = migrated();
    let url = server.url();
    let writer = RefCell::new(Writer::connect(&url).unwrap());
    cases(60)
        .run(&shuffled(), |batches| {
            for batch in &batches {
                let report = writer.borrow_mut().write(&refs(batch)).unwrap();
                prop_assert!(report.conflicts.is_empty());
            }
            let events = batches.concat();
            let ids: Vec<_> = events.iter().map(|event| event.job.id).collect();
            prop_assert_eq!(found(&url, &ids), expected(&events));
            Ok(())
        })
        .unwrap();
}

#[test]
fn writers_at_the_same_events_do_not_disturb_each_other() {
    let server = migrated();
    let url = server.url();
    let jobs = vec((arbitrary::job(), vec(arbitrary::job_result(), 0..3)), 200);
    let all: Vec<_> = sample(&jobs)
        .into_iter()
        .flat_map(|(job, results)| {
            let id = JobId::generate();
            events(&Job { id, ..job }, &results)
        })
        .collect();
    thread::scope(|scope| {
        for writer in 0..4_usize {
            let (url, mut mine) = (&url, all.clone());
            scope.spawn(move || {
                let mut connection = Writer::connect(url).unwrap();
                let length = mine.len();
                mine.rotate_left(writer * length / 4);
                if writer % 2 == 1 {
                    mine.reverse();
                }
                for batch in mine.chunks(97) {
                    let report = connection.write(&refs(batch)).unwrap();
                    assert!(report.conflicts.is_empty());
                }
            });
        }
    });
    let ids: Vec<_> = all.iter().map(|event| event.job.id).collect();
    assert_eq!(found(&url, &ids), expected(&all));
}

/// An accepted and a finished event of a new job.
fn a_job() -> (JobRecord, JobRecord) {
    let done = arbitrary::job_record().prop_filter("finished", |r| r.result.is_some());
    let mut done = sample(&done);
    done.job.id = JobId::generate();
    let accepted = JobRecord {
        result: None,
        ..done.clone()
    };
    (accepted, done)
}

#[test]
fn an_event_counts_only_if_owner_and_digest_match() {
    let server = migrated();
    let url = server.url();
    let mut writer = Writer::connect(&url).unwrap();
    let (accepted, done) = a_job();
    let mut other_owner = done.clone();
    other_owner.job.owner = "somebody-else".parse::<Owner>().unwrap();
    let mut other_image = done.clone();
    other_image.job.sha256 = Digest::from_bytes([7; 32]);
    let id = [done.job.id];

    // In one batch the first to come has the id.
    let report = writer.write(&[&accepted, &other_owner, &other_image]);
    assert_eq!(report.unwrap().conflicts, [1, 2]);
    assert_eq!(get(&url, &id)[&id[0]], storable(&accepted));
    // Afterwards whoever has the row.
    let report = writer.write(&[&other_image, &done, &other_owner]);
    assert_eq!(report.unwrap().conflicts, [0, 2]);
    assert_eq!(get(&url, &id)[&id[0]], storable(&done));
}

#[test]
fn of_two_results_of_a_run_the_first_stands_unless_the_other_was_told() {
    let server = migrated();
    let url = server.url();
    let mut writer = Writer::connect(&url).unwrap();
    let (accepted, mut first) = a_job();
    first.result.as_mut().unwrap().run = 3;
    let mut other = first.clone();
    other.result = Some(JobResult {
        finished_at: Timestamp::from_micros(1_700_000_000_000_007),
        ..JobResult::failed(3, Failure::new(FailureReason::Corrupt, "half a file"))
    });
    let id = first.job.id;
    let stands = |record: &JobRecord| assert_eq!(get(&url, &[id])[&id], storable(record));

    let report = writer.write(&[&accepted, &first, &other]).unwrap();
    assert_eq!(report.superseded, [2]);
    stands(&first);
    let report = writer.write(&[&other, &first]).unwrap();
    assert_eq!(report.superseded, [0]);
    stands(&first);
    // Whichever comes first in its batch.
    for batch in [[&first, &other], [&other, &first]] {
        let told = usize::from(batch[1] == &other);
        let report = writer.write_told(&batch, &[told]).unwrap();
        assert_eq!(report.superseded, [1 - told]);
        stands(&other);
    }
    let report = writer.write_told(&[&other], &[0]).unwrap();
    assert_eq!(report, WriteReport::default());
    stands(&other);
    let report = writer.write_told(&[&accepted, &first], &[1]).unwrap();
    assert_eq!(report, WriteReport::default());
    stands(&first);
    // A later run stays the newest.
    let mut later = first.clone();
    later.result.as_mut().unwrap().run += 1;
    let _ = writer.write(&[&later]).unwrap();
    let report = writer.write_told(&[&other], &[0]).unwrap();
    assert_eq!(report, WriteReport::default());
    stands(&later);
}

#[test]
fn a_long_label_or_name_does_not_keep_a_job_out() {
    let server = migrated();
    let url = server.url();
    let (_, mut done) = a_job();
    let noise: String = sample(&vec(any::<char>(), 20_000)).into_iter().collect();
    done.job.name.clone_from(&noise);
    let mut analysis = sample(&arbitrary::analysis());
    analysis.label = noise;
    if let Some(result) = &mut done.result {
        result.outcome = imgsys_types::Outcome::Done(analysis);
    }
    let _ = Writer::connect(&url).unwrap().write(&[&done]).unwrap();
    let found = &get(&url, &[done.job.id])[&done.job.id];
    assert!(found.job.name.len() <= MAX_NAME);
    assert_eq!(*found, storable(&done));
}

#[test]
fn a_refused_event_leaves_nothing_of_its_batch() {
    let server = migrated();
    let url = server.url();
    connect(&url)
        .unwrap()
        .batch_execute("ALTER TABLE jobs ADD CHECK (name <> 'poison')")
        .unwrap();
    let mut writer = Writer::connect(&url).unwrap();
    let ((good, _), (mut bad, _)) = (a_job(), a_job());
    bad.job.name = "poison".into();
    let refused = writer.write(&[&good, &bad]);
    assert!(
        matches!(refused, Err(WriteError::Rejected(_))),
        "{refused:?}"
    );
    assert!(get(&url, &[good.job.id, bad.job.id]).is_empty());
    // The connection is as good as before.
    let _ = writer.write(&[&good]).unwrap();
}

#[test]
fn a_server_that_is_away_is_no_fault_of_the_events() {
    let server = migrated();
    let url = server.url();
    let mut writer = Writer::connect(&url).unwrap();
    let (accepted, _) = a_job();
    server.stop();
    let refused = writer.write(&[&accepted]);
    assert!(
        matches!(refused, Err(WriteError::Unavailable(_))),
        "{refused:?}"
    );
    let refused = Writer::connect(&url).map(drop);
    assert!(
        matches!(refused, Err(WriteError::Unavailable(_))),
        "{refused:?}"
    );
    server.start().unwrap();
    let mut client = superuser(&server);
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        client.batch_execute(sql).unwrap();
    }
    eventually("read-only", || {
        let refused = Writer::connect(&url).unwrap().write(&[&accepted]);
        matches!(refused, Err(WriteError::Unavailable(_)))
    });
}
