//! Pages hold what the filter says, and every call has an end.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{ReadError, Reader, Writer, connect};
use imgsys_types::{
    Analysis, Analyzer, Cursor, Digest, HistoryFilter, Job, JobId, JobRecord, JobResult, JobState,
    Outcome, Owner, Timestamp, Whose, arbitrary,
};
use proptest::{
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use std::{
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};
use support::{empty, migrated};
use tokio::runtime::Runtime;

/// Names of analyzers, and their versions too.
const ANALYZERS: &[&str] = &["simulated", "onnx", "1"];

fn models() -> Vec<Digest> {
    vec![Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32])]
}

const LABELS: &[&str] = &["cat", "dog", "a\\b", "50%_off", ""];
const NAMES: &[&str] = &[
    "cat.jpg",
    "cat%.jpg",
    "cat_1.jpg",
    "ca\\t",
    "Cat.jpg",
    "été",
    "",
];

/// Records that have much in common, so that filters find some and not all.
fn record() -> impl Strategy<Value = JobRecord> {
    let owner = select(vec!["local", "ann"]).prop_map(|o| o.parse::<Owner>().unwrap());
    let analyzer = (
        select(ANALYZERS),
        select(ANALYZERS),
        option::of(select(models())),
    );
    let analyzer = analyzer.prop_map(|(name, version, model)| Analyzer {
        name: name.into(),
        version: version.into(),
        model,
    });
    let found = (arbitrary::analysis(), analyzer, select(LABELS), 0_u8..=100);
    let analysis = found.prop_map(|(analysis, analyzer, label, confidence)| Analysis {
        analyzer,
        label: label.into(),
        confidence: confidence.into(),
        ..analysis
    });
    let outcome = prop_oneof![
        3 => analysis.prop_map(Outcome::Done),
        1 => arbitrary::outcome().prop_filter("failed", |o| o.state() == JobState::Failed),
    ];
    let result = (arbitrary::job_result(), outcome).prop_map(|(result, outcome)| JobResult {
        outcome,
        worker: None,
        queued_us: 1,
        analysis_us: 2,
        finished_at: Timestamp::from_micros(5),
        ..result
    });
    let parts = (
        arbitrary::job(),
        owner,
        select(NAMES),
        0_i64..20,
        option::of(result),
    );
    parts.prop_map(|(job, owner, name, submitted_at, result)| JobRecord {
        job: Job {
            id: JobId::from_bytes(*JobId::generate().as_bytes()),
            owner,
            name: name.into(),
            size: 1,
            submitted_at: Timestamp::from_micros(submitted_at),
            ..job
        },
        result,
    })
}

fn filter() -> impl Strategy<Value = HistoryFilter> {
    let time = || option::of((0_i64..20).prop_map(Timestamp::from_micros));
    let text = |texts: &'static [&'static str]| option::of(select(texts).prop_map(String::from));
    let prefix = option::of(select(vec![
        "c", "ca", "cat", "cat%", "cat_", "ca\\", "é", "x", "",
    ]));
    let rest = (
        option::of(0_f64..100.0),
        option::of(arbitrary::state()),
        prefix,
        (
            text(ANALYZERS),
            text(ANALYZERS),
            option::of(select(models())),
        ),
    );
    (time(), time(), text(LABELS), rest).prop_map(
        |(
            since,
            until,
            label,
            (min_confidence, state, name, (analyzer, except_version, except_model)),
        )| HistoryFilter {
            since,
            until,
            label,
            min_confidence,
            state,
            name: name.map(String::from),
            analyzer,
            except_version,
            except_model,
        },
    )
}

#[test]
fn pages_hold_what_the_filter_lets_pass_newest_first() {
    let server = migrated();
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let records: Vec<JobRecord> = (0..400)
        .map(|_| record().new_tree(&mut runner).unwrap().current())
        // Only what can be stored as it is: this test is of pages.
        .filter(|record| !serde_json::to_string(record).unwrap().contains("\\u0000"))
        .collect();
    let batch: Vec<&JobRecord> = records.iter().collect();
    let _ = Writer::connect(&server.url())
        .unwrap()
        .write(&batch)
        .unwrap();

    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 2).unwrap();
    let whose = select(vec![Whose::One("ann".parse().unwrap()), Whose::All]);
    runner
        .run(&(whose, filter(), 1_u32..80), |(whose, filter, limit)| {
            let matching = records
                .iter()
                .filter(|r| whose.includes(&r.job.owner) && filter.matches(r));
            let mut expected: Vec<&JobRecord> = matching.collect();
            expected.sort_by_key(|record| std::cmp::Reverse(Cursor::of(record)));
            let mut shown = Vec::new();
            loop {
                let after = shown.last().map(Cursor::of);
                let page = reader.page(&whose, &filter, after, limit);
                let page = runtime.block_on(page).unwrap();
                prop_assert!(page.len() <= limit as usize);
                let last = page.len() < limit as usize;
                shown.extend(page);
                if last {
                    break;
                }
            }
            prop_assert_eq!(shown.iter().collect::<Vec<_>>(), expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_filter_and_place_can_be_asked_for() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 2).unwrap();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(
            &(
                arbitrary::whose(),
                arbitrary::filter(),
                option::of(arbitrary::cursor()),
                any::<u32>(),
            ),
            |(whose, filter, after, limit)| {
                let page = runtime.block_on(reader.page(&whose, &filter, after, limit));
                prop_assert!(page.unwrap().is_empty());
                Ok(())
            },
        )
        .unwrap();
}

#[tokio::test]
async fn no_server_and_a_silent_one_are_told_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("host={} user=postgres", dir.path().display());
    let reader = Reader::new(&url, 2).unwrap();
    assert!(matches!(
        reader.ping().await,
        Err(ReadError::Unavailable(Some(_)))
    ));

    let _silent = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    let start = Instant::now();
    // More calls than connections: those that wait for one have no more time than the others.
    let calls = (0..6).map(|_| {
        let reader = reader.clone();
        tokio::spawn(async move { reader.get(&[JobId::generate()]).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        assert!(
            matches!(answer, Err(ReadError::Unavailable(_))),
            "{answer:?}"
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn nonsense_for_a_url_is_told_at_once() {
    assert!(matches!(
        Reader::new("redis://x", 1),
        Err(ReadError::Url(_))
    ));
}

#[test]
fn a_stuck_query_is_given_up_and_its_connection_not_used_again() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let ask = || runtime.block_on(reader.get(&[JobId::generate()]));
    ask().unwrap();
    let mut other = connect(&server.url()).unwrap();
    let mut transaction = other.transaction().unwrap();
    transaction.batch_execute("LOCK TABLE jobs").unwrap();
    let start = Instant::now();
    let answer = ask();
    assert!(
        matches!(answer, Err(ReadError::Unavailable(_))),
        "{answer:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    transaction.rollback().unwrap();
    ask().unwrap();
}

#[test]
fn a_restart_of_the_server_is_not_noticed() {
    let server = migrated();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 3).unwrap();
    let ask = async || reader.get(&[JobId::generate()]).await;
    runtime.block_on(async {
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        a.and(b).and(c).unwrap();
    });
    server.stop();
    assert!(matches!(
        runtime.block_on(ask()),
        Err(ReadError::Unavailable(_))
    ));
    server.start().unwrap();
    runtime.block_on(ask()).unwrap();
}

#[test]
fn a_database_without_the_schema_says_what_to_do() {
    let server = empty();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    for answer in [
        runtime.block_on(reader.ping()),
        runtime.block_on(reader.get(&[])).map(drop),
    ] {
        let error = answer.unwrap_err();
        assert!(matches!(error, ReadError::Schema(_)), "{error:?}");
        assert!(error.to_string().contains("imgsys-persister migrate"));
    }
    imgsys_history::migrate(&mut connect(&server.url()).unwrap()).unwrap();
    runtime.block_on(reader.ping()).unwrap();
}

#[test]
fn jobs_in_great_number_come_whole() {
    // Rows of a type that had to be looked up first once waited for the look-up, and it for them.
    let server = migrated();
    let mut runner = TestRunner::new(Config::default());
    let mut records: Vec<JobRecord> = (0..1000)
        .map(|_| record().new_tree(&mut runner).unwrap().current())
        .collect();
    for record in &mut records {
        record.job.owner = Owner::local();
    }
    let batch: Vec<&JobRecord> = records.iter().collect();
    let _ = Writer::connect(&server.url())
        .unwrap()
        .write(&batch)
        .unwrap();
    let runtime = Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let ids: Vec<JobId> = records.iter().map(|record| record.job.id).collect();
    assert_eq!(runtime.block_on(reader.get(&ids)).unwrap().len(), 1000);
    let (owner, all) = (Owner::local().into(), HistoryFilter::default());
    let page = reader.page(&owner, &all, None, 1000);
    assert_eq!(runtime.block_on(page).unwrap().len(), 1000);
}
