use super::*;
use crate::{
    Reader, connect,
    erase::{DELETED, NEEDED},
    migrate,
    way::{is_contradiction, way, ways},
};
use imgsys_types::{JobId, JobState, Timestamp, Whose};

#[test]
fn what_begins_with_a_prefix_is_before_the_first_text_behind_it() {
    for (prefix, end) in [
        ("50%_", Some("50%`")),
        ("é", Some("ê")),
        ("a\u{d7ff}", Some("a\u{e000}")),
        ("a\u{10ffff}", Some("b")),
        ("\u{10ffff}", None),
    ] {
        assert_eq!(behind(prefix).as_deref(), end);
        let last = format!("{prefix}\u{10ffff}\u{10ffff}");
        assert!(behind(prefix).is_none_or(|end| *prefix < *end && last < end));
    }
}

/// PostgreSQL's plan for a statement, with its values.
fn plan(client: &mut postgres::Client, query: &Query) -> String {
    let rows = client.query_typed(&format!("EXPLAIN {}", query.sql), &query.params());
    let lines = rows.unwrap().into_iter().map(|row| row.get(0));
    lines.collect::<Vec<String>>().join("\n")
}

#[test]
fn each_filter_has_its_index() {
    let server = imgsys_local::TestPostgres::start().unwrap();
    let mut client = connect(&server.url()).unwrap();
    migrate(&mut client).unwrap();
    client
        .batch_execute(
            "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence,
                               state, priority, sha256, owner, name, label, analyzer,
                               analyzer_version, model)
             SELECT gen_random_uuid(), gen_random_uuid(), at, done, 1, run, conf, state, 5,
                    sha256(n::text::bytea), 'local', 'image ' || n, label,
                    CASE WHEN state = 'done' THEN 'onnx' END,
                    CASE WHEN state = 'done' THEN 'version ' || n / 10000 END,
                    CASE WHEN n % 2 = 0 THEN sha256('model') END
             FROM generate_series(1, 100000) AS n,
                  LATERAL (SELECT timestamptz 'epoch' + n * interval '1 min' AS at) AS t,
                  LATERAL (SELECT CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'done' END::job_state
                                  AS state, at AS done, 0 AS run,
                                  CASE WHEN n % 1000 > 0 THEN 50 END AS conf,
                                  CASE WHEN n % 1000 > 0 THEN 'label ' || n % 500 END AS label) AS r;
             UPDATE jobs SET deleted_at = now() WHERE submitted_at < timestamptz 'epoch' + interval '60 h';
             ANALYZE jobs",
        )
        .unwrap();
    let label = Some("label 3".into());
    let name = Some("image 77777".into());
    let since = Some(Timestamp::from_micros(4_800_000_000_000));
    let min_confidence = Some(10.0);
    let rare = Some(99.9);
    let analyzer = Some("onnx".into());
    let except_version = Some("version 1".into());
    let (failed, done) = (Some(JobState::Failed), Some(JobState::Done));
    let none = HistoryFilter::default;
    #[rustfmt::skip]
    let cases = [
        ("jobs_by_time", none()),
        ("jobs_by_time", HistoryFilter { since, ..none() }),
        ("jobs_by_time", HistoryFilter { state: done, ..none() }),
        ("jobs_by_label", HistoryFilter { label: label.clone(), ..none() }),
        ("jobs_by_label", HistoryFilter { label, state: done, min_confidence, ..none() }),
        ("jobs_not_done", HistoryFilter { state: failed, ..none() }),
        ("jobs_by_name", HistoryFilter { name, ..none() }),
        ("jobs_by_confidence", HistoryFilter { min_confidence: rare, state: done, ..none() }),
        ("jobs_by_analyzer", HistoryFilter { analyzer, since, ..none() }),
        ("jobs_by_analyzer", HistoryFilter { except_version, min_confidence, ..none() }),
    ];
    let local = Owner::local();
    let after = Some(Cursor {
        submitted_at: Timestamp::from_micros(5_400_000_000_000),
        job: JobId::from_bytes([0; 16]),
    });
    for (index, filter) in cases {
        let of = |of| Query::page(of, &filter, after, 50, way(&filter));
        let of_all = [Query::busiest(&filter, after), of(Of::AllBut(Some(&local)))];
        for query in of_all {
            let plan = plan(&mut client, &query);
            assert!(!plan.contains("Seq Scan on jobs"), "{filter:?}\n{plan}");
        }
        let plan = plan(&mut client, &of(Of::One(&local)));
        assert!(
            plan.contains(&format!("using {index} on jobs")),
            "{filter:?}\n{plan}"
        );
        // What is found in the order of time has not to be put in order, but for the page at last;
        // what is not is bounded by its span or by the page.
        let sorted = plan.matches("Sort Key").count();
        assert!(
            way(&filter) != Way::Time || sorted <= 1,
            "{filter:?}\n{plan}"
        );
    }
}

#[test]
fn images_of_deleted_jobs_have_theirs() {
    let server = imgsys_local::TestPostgres::start().unwrap();
    let mut client = connect(&server.url()).unwrap();
    migrate(&mut client).unwrap();
    client
        .batch_execute(
            "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, state, priority,
                               sha256, owner, name, deleted_at)
             SELECT gen_random_uuid(), md5((n % 2)::text)::uuid, now(), now(), 1, 0, 'failed', 5,
                    sha256(n::text::bytea), 'local', '',
                    CASE WHEN n % 100 = 0 THEN now() - n * interval '1 min' END
             FROM generate_series(1, 30000) AS n;
             ANALYZE jobs",
        )
        .unwrap();
    let images = vec![vec![1_u8; 32]; 100];
    let server = uuid::Uuid::nil();
    let cases: [(&str, &str, Param<'_>, Param<'_>); 2] = [
        (
            "jobs_by_sha256",
            NEEDED,
            (&images, Type::BYTEA_ARRAY),
            (&server, Type::UUID),
        ),
        (
            "jobs_deleted",
            DELETED,
            (&server, Type::UUID),
            (&3600_f64, Type::FLOAT8),
        ),
    ];
    for (index, sql, one, two) in cases {
        let rows = client.query_typed(&format!("EXPLAIN {sql}"), &[one, two]);
        let lines = rows.unwrap().into_iter().map(|row| row.get(0));
        let plan = lines.collect::<Vec<String>>().join("\n");
        assert!(plan.contains(index), "{plan}");
    }
}

#[test]
fn of_two_upper_ends_the_lower_one_is_asked_for() {
    let until = Timestamp::from_micros(2_000_000);
    let filter = HistoryFilter {
        until: Some(until),
        ..HistoryFilter::default()
    };
    for (micros, by_place) in [(1_999_999, true), (2_000_000, false), (3_000_000, false)] {
        let after = Cursor {
            submitted_at: Timestamp::from_micros(micros),
            job: JobId::from_bytes([0; 16]),
        };
        let query = Query::page(
            Of::One(&Owner::local()),
            &filter,
            Some(after),
            10,
            way(&filter),
        );
        assert_eq!(query.sql.contains("(submitted_at, id) <"), by_place);
        assert_eq!(query.sql.contains("submitted_at < $"), !by_place);
    }
}

#[test]
fn only_what_is_set_is_asked_for() {
    let query = Query::page(
        Of::One(&Owner::local()),
        &HistoryFilter::default(),
        None,
        10,
        Way::Time,
    );
    assert!(
        query
            .sql
            .contains("WHERE owner = $1 AND deleted_at IS NULL ORDER BY")
    );
    assert_eq!(query.params().len(), 2);
}

/// Jobs of a year, of three days that hold as many, of eleven years with one a day, and one of
/// long ago.
const SCATTERED: &str = "
    INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence, state, priority,
                      sha256, owner, name, label, analyzer, analyzer_version, model)
    SELECT md5(n::text)::uuid, gen_random_uuid(), at, at, 1, 0, conf, state::job_state, 5,
           sha256(n::text::bytea), CASE WHEN n % 20 = 0 THEN 'ann' ELSE 'local' END,
           CASE WHEN n > 12000 THEN 'old' WHEN n BETWEEN 4001 AND 8000 THEN 'dense/' || n
                ELSE 'image ' || n END,
           CASE WHEN state = 'done' THEN 'label ' || n % 11 END,
           CASE WHEN state = 'done' THEN CASE WHEN n > 9000 THEN 'simulated' ELSE 'onnx' END END,
           CASE WHEN state = 'done' THEN '1' END,
           CASE WHEN state = 'done' AND n <= 9000 THEN sha256('model') END
    FROM generate_series(1, 12001) AS n,
         LATERAL (SELECT CASE WHEN n <= 4000 THEN timestamptz '2024-01-01' - n * interval '2 hours'
                              WHEN n <= 8000 THEN timestamptz '2021-01-01' - n / 2 * interval '2 min'
                              WHEN n <= 12000 THEN timestamptz '2015-01-01' - n * interval '1 day'
                              ELSE timestamptz '4710-01-01 BC' END AS at) AS t,
         LATERAL (SELECT CASE WHEN n % 13 = 0 THEN 'failed' ELSE 'done' END AS state) AS s,
         LATERAL (SELECT CASE WHEN state = 'done' THEN n % 100 END AS conf) AS c;
    ANALYZE jobs";

/// Something for each, whatever it is: these pages are of jobs.
const PREDICTED: &str = "
    INSERT INTO predictions (job_id, run, finished_at, queued_us, analysis_us, attempts, state, reason, detail)
    SELECT id, run, finished_at, 1, 1, 1, 'failed', 'invalid_image', '' FROM jobs";

#[test]
fn each_way_finds_the_same_page() {
    let server = imgsys_local::TestPostgres::start().unwrap();
    let mut client = connect(&server.url()).unwrap();
    migrate(&mut client).unwrap();
    client.batch_execute(SCATTERED).unwrap();
    client.batch_execute(PREDICTED).unwrap();
    let mut ids = |of: Of<'_>, filter: &HistoryFilter, after, limit, way| {
        let query = Query::page(of, filter, after, limit, way);
        let rows = client.query_typed(&query.sql, &query.params()).unwrap();
        let ids = rows.into_iter().map(|row| row.get(0));
        ids.collect::<Vec<uuid::Uuid>>()
    };
    let none = HistoryFilter::default;
    let name = |name: &str| Some(name.to_owned());
    let label = || Some("label 3".to_owned());
    let year = |year: i64| Timestamp::from_micros((year - 1970) * 31_556_952_000_000);
    let failed = Some(JobState::Failed);
    #[rustfmt::skip]
    let filters = [
        HistoryFilter { name: name("dense/"), ..none() },
        HistoryFilter { name: name("dense/77"), ..none() },
        HistoryFilter { name: name("image 11"), ..none() },
        HistoryFilter { name: name("old"), ..none() },
        HistoryFilter { name: name("none"), ..none() },
        HistoryFilter { name: name("image"), until: Some(year(2010)), ..none() },
        HistoryFilter { name: name("image"), since: Some(year(1995)), until: Some(year(2000)), ..none() },
        HistoryFilter { name: name("dense/"), label: label(), ..none() },
        HistoryFilter { name: name("image 9"), state: failed, ..none() },
        HistoryFilter { min_confidence: Some(50.0), ..none() },
        HistoryFilter { min_confidence: Some(99.0), ..none() },
        HistoryFilter { min_confidence: Some(98.5), label: label(), ..none() },
        HistoryFilter { min_confidence: Some(99.0), analyzer: name("simulated"), ..none() },
        HistoryFilter { min_confidence: Some(30.0), name: name("image 1"), except_version: name("2"), ..none() },
    ];
    let places = [
        None,
        Some(2024),
        Some(2021),
        Some(2020),
        Some(2009),
        Some(1980),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reader = Reader::new(&server.url(), 1).unwrap();
    let local = Owner::local();
    for whose in [Whose::One(local.clone()), Whose::All] {
        let of = match &whose {
            Whose::One(owner) => Of::One(owner),
            Whose::All => Of::AllBut(None),
        };
        for filter in &filters {
            for (place, limit) in places.into_iter().zip([10, 51, 51, 400, 51, 400]) {
                let after = place.map(|place| Cursor {
                    submitted_at: year(place),
                    job: JobId::from_bytes([7; 16]),
                });
                let plain = ids(of, filter, after, limit, Way::Time);
                for way in ways(filter) {
                    let found = ids(of, filter, after, limit, way);
                    assert_eq!(found, plain, "{way:?} {whose:?} {filter:?} {place:?}");
                }
                let page = reader.page(&whose, filter, after, limit);
                let page = runtime.block_on(page).unwrap();
                let page: Vec<_> = page.iter().map(|record| record.job.id.uuid()).collect();
                assert_eq!(page, plain, "{whose:?} {filter:?} {place:?}");
                if whose == Whose::All {
                    continue;
                }
                let near = ids(of, filter, after, limit, Way::Near);
                assert!(
                    near.len() < limit as usize || near == plain,
                    "{filter:?} {place:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_done_has_no_label() {
    let failed = HistoryFilter {
        state: Some(JobState::Failed),
        ..HistoryFilter::default()
    };
    assert!(!is_contradiction(&failed));
    let label = Some(String::new());
    assert!(is_contradiction(&HistoryFilter { label, ..failed }));
}
