//! Events become rows, each once, whatever goes down meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_queue::events;
use imgsys_types::{JobRecord, JobResult, Owner};
use redis::{Commands, streams::StreamRangeReply};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};
use support::{Site, eventually, names};

#[test]
fn events_become_rows_and_the_server_is_told() {
    let site = Site::new();
    let mut redis = site.redis();
    let mut told = redis.as_pubsub();
    told.subscribe(names().persisted(site.server)).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let persister = site.started("persister");
    let jobs = site.jobs(1500);
    site.accept(&jobs);
    // An accepted job is in the database, but stays open.
    eventually("accepted events are settled", || {
        let waiting: i64 = site
            .sql()
            .query_one("SELECT count(*) FROM jobs WHERE state = 'queued'", &[])
            .unwrap()
            .get(0);
        waiting == 1500 && site.pending() == 0
    });
    assert_eq!(site.open().len(), 1500);

    site.finish(&jobs);
    site.await_rows(&jobs);
    let mut ids = BTreeSet::new();
    while ids.len() < jobs.len() {
        let message: String = told.get_message().unwrap().get_payload().unwrap();
        let runs: Vec<(String, i64)> = serde_json::from_str(&message).unwrap();
        ids.extend(runs.into_iter().map(|(id, _)| id));
    }
    assert_eq!(ids, jobs.iter().map(|job| job.job.id.to_string()).collect());
    eventually("the stream is trimmed", || {
        let left: usize = site.redis().xlen(names().events()).unwrap();
        left < 200
    });

    persister.stop();
    let again = site.started("again");
    let more = site.jobs(1);
    site.finish(&more);
    site.await_rows(&[jobs, more].concat());
    drop(again);
}

#[test]
fn two_persisters_killed_again_and_again_write_each_job_once() {
    let site = Site::new();
    let jobs = site.jobs(4000);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for some in jobs.chunks(50) {
                site.accept(some);
                site.finish(some);
            }
        });
        let mut kills = 0;
        while !sender.is_finished() || kills < 6 {
            let pair = [site.started("left"), site.started("right")];
            let before = site.rows().0;
            eventually("work goes on", || {
                site.rows().0 > before || sender.is_finished()
            });
            pair[kills % 2].kill();
            kills += 1;
        }
        sender.join().unwrap();
    });
    let _last = site.started("last");
    site.await_rows(&jobs);
}

#[test]
fn a_persister_killed_in_the_midst_of_a_batch() {
    let site = Site::new();
    let jobs = site.jobs(100);
    let first = site.started("first");
    let mut sql = site.sql();
    let mut lock = sql.transaction().unwrap();
    lock.batch_execute("LOCK TABLE predictions").unwrap();
    site.accept(&jobs);
    site.finish(&jobs);
    eventually("its transaction waits", || waits_for_lock(&site));
    first.kill();
    lock.rollback().unwrap();
    let _second = site.started("second");
    site.await_rows(&jobs);
}

#[test]
fn a_persister_killed_between_commit_and_settling() {
    let site = Site::new();
    let jobs = site.jobs(100);
    let first = site.started("first");
    let mut sql = site.sql();
    let mut lock = sql.transaction().unwrap();
    lock.batch_execute("LOCK TABLE jobs").unwrap();
    site.finish(&jobs);
    eventually("its transaction waits", || waits_for_lock(&site));
    // A busy disk makes Redis put off writing its log, which would be lost with it.
    eventually("Redis has written its log", || {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("all")
            .query(&mut site.redis())
            .unwrap();
        info.get::<usize>("aof_buffer_length") == Some(0)
    });
    site.redis.kill();
    lock.rollback().unwrap();
    eventually("it commits", || site.rows().0 > 0);
    first.kill();
    site.redis.start().unwrap();
    assert_eq!(site.rows().0, i64::try_from(site.pending()).unwrap());
    assert_eq!(site.open().len(), 100);
    let _second = site.started("second");
    site.await_rows(&jobs);
}

fn waits_for_lock(site: &Site) -> bool {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    site.sql().query_one(waiting, &[]).unwrap().get::<_, i64>(0) > 0
}

#[test]
fn a_wiped_redis_is_begun_anew() {
    let site = Site::new();
    let persister = site.started("persister");
    let (before, after) = (site.jobs(20), site.jobs(20));
    site.finish(&before);
    site.await_rows(&before);
    site.redis.wipe().unwrap();
    site.finish(&after);
    site.await_rows(&[before.clone(), after.clone()].concat());

    // And while it holds events that it can't write yet.
    let held = site.jobs(20);
    let mut sql = site.sql();
    let mut lock = sql.transaction().unwrap();
    lock.batch_execute("LOCK TABLE jobs").unwrap();
    site.finish(&held);
    eventually("it holds them", || site.pending() > 0);
    site.redis.wipe().unwrap();
    lock.rollback().unwrap();
    let last = site.jobs(20);
    site.finish(&last);
    eventually("the last are written", || {
        site.pending() == 0 && site.open().is_empty()
    });
    let written: BTreeSet<String> = site
        .sql()
        .query("SELECT id::text FROM jobs", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for job in [before, after, last].concat() {
        assert!(written.contains(&job.job.id.to_string()));
    }
    assert!(persister.exit().is_none());
}

#[test]
fn bad_events_are_set_aside_and_the_others_written() {
    let site = Site::new();
    site.sql()
        .batch_execute("ALTER TABLE jobs ADD CONSTRAINT harmless CHECK (name <> 'poison')")
        .unwrap();
    let mut jobs = site.jobs(300);
    jobs[137].job.name = "poison".into();
    jobs[138].job.name = "poison".into();
    let mut redis = site.redis();
    for (event, data) in [("finished", "{\"job\":"), ("exploded", "{}")] {
        let _: String = redis
            .xadd(
                names().events(),
                "*",
                &[(events::EVENT, event), (events::DATA, data)],
            )
            .unwrap();
    }
    let _: String = redis
        .xadd(names().events(), "*", &[("nothing", "known")])
        .unwrap();
    site.accept(&jobs);
    site.finish(&jobs);
    let persister = site.started("persister");
    eventually("298 jobs are written", || {
        site.rows() == (298, 298) && site.pending() == 0
    });
    assert_eq!(site.open().len(), 2);
    let bad: StreamRangeReply = redis.xrange_all(names().bad_events()).unwrap();
    let field = |name: &str| -> Vec<String> {
        bad.ids
            .iter()
            .map(|entry| entry.get(name).unwrap())
            .collect()
    };
    let (reasons, data) = (field("reason"), field("data"));
    // Each poisoned job twice: as it was accepted, and as it ended.
    assert_eq!(reasons.len(), 7, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|r| r.contains("harmless")).count(), 4);
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("EOF while parsing"))
    );
    assert!(data.contains(&"{\"job\":".to_owned()));
    // Set aside as it was read: within bounds.
    let poisoned = events::to_json(&jobs[137]).unwrap();
    let poisoned = events::from_json(poisoned.as_bytes()).unwrap();
    let poisoned = events::to_json(&poisoned).unwrap();
    assert!(data.contains(&poisoned));
    assert!(persister.exit().is_none());
}

#[test]
fn job_whose_result_can_not_be_written_ends_as_failed() {
    let site = Site::new();
    site.sql()
        .batch_execute("ALTER TABLE predictions ADD CONSTRAINT harmless CHECK (worker <> 'poison')")
        .unwrap();
    let mut jobs = site.jobs(3);
    jobs[0].result.as_mut().unwrap().worker = Some("poison".into());
    site.accept(&jobs);
    site.finish(&jobs[..2]);
    // A worker of somebody else's, that has not read docs/queue.md.
    let [event, (field, data)] = events::encode(&jobs[2]).unwrap();
    let data = data.replace("\"outcome\"", "\"income\"");
    site.end(&jobs[2], &[event, (field, data)]);
    let persister = site.started("persister");
    eventually("all jobs have ended", || {
        site.rows() == (3, 3) && site.pending() == 0 && site.open().is_empty()
    });
    let failed = site.sql().query(
        "SELECT j.id, j.state::text, p.reason FROM jobs j JOIN predictions p ON p.job_id = j.id
         WHERE p.detail LIKE '%bad events%'",
        &[],
    );
    let mut ids = BTreeSet::new();
    for row in failed.unwrap() {
        assert_eq!(row.get::<_, String>(1), "failed");
        assert_eq!(row.get::<_, String>(2), "analyzer_error");
        ids.insert(row.get::<_, uuid::Uuid>(0));
    }
    assert_eq!(ids, [0, 2].map(|n| jobs[n].job.id.uuid()).into());
    let bad: usize = site.redis().xlen(names().bad_events()).unwrap();
    assert_eq!(bad, 2);
    assert!(persister.exit().is_none());
}

#[test]
fn an_event_of_a_job_that_is_anothers_does_not_count() {
    let site = Site::new();
    let mut redis = site.redis();
    let mut told = redis.as_pubsub();
    told.subscribe(names().persisted(site.server)).unwrap();
    let job = site.jobs(1).remove(0);
    let mut thief = job.clone();
    thief.job.owner = "thief".parse::<Owner>().unwrap();
    let _persister = site.started("persister");
    site.finish(&[job.clone(), thief]);
    eventually("both are settled", || {
        site.rows().0 == 1 && site.pending() == 0
    });
    // Its place in `open` is free for the server to see that the job is not there.
    eventually("nothing is open", || site.open().is_empty());
    let owner: String = site
        .sql()
        .query_one("SELECT owner FROM jobs", &[])
        .unwrap()
        .get(0);
    assert_eq!(owner, job.job.owner.as_str());
    let message: String = told.get_message().unwrap().get_payload().unwrap();
    let ended = job.result.unwrap().finished_at.as_micros();
    assert_eq!(message, format!("[[\"{}\",{ended}]]", job.job.id));
}

#[test]
fn an_event_written_late_leaves_the_jobs_next_run_open() {
    let site = Site::new();
    let jobs = site.jobs(1);
    site.finish(&jobs);
    // Meanwhile the job was put on the queue again.
    let (mut redis, open) = (site.redis(), names().open(site.server));
    let id = jobs[0].job.id.to_string();
    let _: i32 = redis.hset(&open, &id, "queued").unwrap();
    let _persister = site.started("persister");
    eventually("the first run is settled", || {
        site.rows() == (1, 1) && site.pending() == 0
    });
    assert_eq!(redis.hget::<_, _, String>(&open, &id).unwrap(), "queued");
    let run = |job: &JobRecord| JobRecord {
        result: job
            .result
            .clone()
            .map(|result| JobResult { run: 1, ..result }),
        ..job.clone()
    };
    site.finish(&[run(&jobs[0])]);
    eventually("the second run is settled", || {
        site.rows() == (1, 2) && site.open().is_empty()
    });
}

#[test]
fn postgresql_stopped_for_three_seconds() {
    let site = Site::new();
    let persister = site.started("persister");
    let pid = persister.pid();
    let (before, during, after) = (site.jobs(50), site.jobs(50), site.jobs(50));
    site.finish(&before);
    site.await_rows(&before);
    site.postgres.stop();
    site.finish(&during);
    eventually("it says what it waits for", || {
        persister
            .last_lines()
            .iter()
            .any(|line| line.contains("waiting for PostgreSQL"))
    });
    let until = Instant::now() + Duration::from_secs(3);
    eventually("three seconds are over", || Instant::now() > until);
    site.postgres.start().unwrap();
    site.finish(&after);
    site.await_rows(&[before, during, after].concat());
    assert_eq!(persister.pid(), pid);
    let lines = persister.last_lines().join("\n");
    assert_eq!(
        lines.matches("waiting for PostgreSQL").count(),
        1,
        "{lines}"
    );
    assert!(lines.contains("PostgreSQL is back after"), "{lines}");
}

#[test]
fn redis_killed_for_three_seconds() {
    let site = Site::new();
    let persister = site.started("persister");
    let pid = persister.pid();
    let (before, after) = (site.jobs(50), site.jobs(50));
    site.finish(&before);
    site.await_rows(&before);
    site.redis.kill();
    let until = Instant::now() + Duration::from_secs(3);
    eventually("three seconds are over", || Instant::now() > until);
    site.redis.start().unwrap();
    site.finish(&after);
    site.await_rows(&[before, after].concat());
    assert_eq!(persister.pid(), pid);
    let lines = persister.last_lines().join("\n");
    assert_eq!(lines.matches("waiting for Redis").count(), 1, "{lines}");
}
