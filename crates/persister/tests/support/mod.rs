//! What these tests share: real Redis and PostgreSQL, the program, and events as workers make them.

// Not every test file uses all of it.
#![allow(dead_code, clippy::unwrap_used)]

use imgsys_local::{Service, Spec, TestPostgres, TestRedis};
use imgsys_queue::{
    events,
    keys::{self, Keys},
};
use imgsys_types::{JobId, JobRecord, JobResult, ServerId, arbitrary};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use redis::{Commands, Connection};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What things are called in Redis.
pub(crate) fn names() -> Keys {
    Keys::of("redis://localhost").unwrap()
}

/// Ends a job as the finishing script does: the event, and the mark of the entry that ended it.
const FINISH: &str = "
    local entry = redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[2], ARGV[3], ARGV[4])
    redis.call('HSET', KEYS[2], ARGV[5], entry)
    return entry";

/// Redis, PostgreSQL and a place for logs.
pub(crate) struct Site {
    pub(crate) redis: TestRedis,
    pub(crate) postgres: TestPostgres,
    pub(crate) server: ServerId,
    dir: TempDir,
}

impl Site {
    /// With the schema.
    pub(crate) fn new() -> Self {
        let site = Self::without_schema();
        imgsys_history::migrate(&mut site.sql()).unwrap();
        site
    }

    pub(crate) fn without_schema() -> Self {
        Self {
            redis: TestRedis::start().unwrap(),
            postgres: TestPostgres::start().unwrap(),
            server: ServerId::generate(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The program, not yet started.
    pub(crate) fn persister(&self, name: &str, flags: &[&str]) -> Service {
        let spec = Spec::new(name, env!("CARGO_BIN_EXE_imgsys-persister"))
            .args(["--redis-url", &self.redis.url()])
            .args(["--database-url", &self.postgres.url()])
            .args(["--http-listen", ""])
            .args(flags);
        Service::new(spec, self.dir.path())
    }

    /// The program, running; what it leaves when it dies is taken over quickly.
    pub(crate) fn started(&self, name: &str) -> Service {
        let service = self.persister(name, &["--claim-after", "400ms", "--linger", "5ms"]);
        service.start().unwrap();
        service
    }

    pub(crate) fn sql(&self) -> postgres::Client {
        imgsys_history::connect(&self.postgres.url()).unwrap()
    }

    pub(crate) fn redis(&self) -> Connection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Finished jobs of this site's server.
    pub(crate) fn jobs(&self, count: usize) -> Vec<JobRecord> {
        let mut runner = TestRunner::default();
        let strategy = (arbitrary::job(), arbitrary::job_result());
        let one = |_| {
            let (mut job, result) = strategy.new_tree(&mut runner).unwrap().current();
            job.id = JobId::generate();
            job.server = self.server;
            let result = Some(JobResult { run: 0, ..result });
            JobRecord { job, result }
        };
        (0..count).map(one).collect()
    }

    /// The jobs are accepted.
    pub(crate) fn accept(&self, jobs: &[JobRecord]) {
        let mut redis = self.redis();
        for job in jobs {
            let accepted = JobRecord {
                job: job.job.clone(),
                result: None,
            };
            redis::pipe()
                .atomic()
                .xadd(names().events(), "*", &events::encode(&accepted).unwrap())
                .hset(names().open(self.server), job.job.id.to_string(), "queued")
                .exec(&mut redis)
                .unwrap();
        }
    }

    /// The jobs end.
    pub(crate) fn finish(&self, jobs: &[JobRecord]) {
        for job in jobs {
            self.end(job, &events::encode(job).unwrap());
        }
    }

    /// A job ends by an entry with these fields.
    pub(crate) fn end(&self, job: &JobRecord, fields: &[(&str, String)]) {
        let mut end = redis::cmd("EVAL");
        end.arg(FINISH).arg(2);
        end.arg(names().events()).arg(names().open(self.server));
        for (field, value) in fields {
            end.arg(field).arg(value);
        }
        end.arg(job.job.id.to_string());
        end.exec(&mut self.redis()).unwrap();
    }

    /// Jobs in the database, and predictions.
    pub(crate) fn rows(&self) -> (i64, i64) {
        let count = "SELECT (SELECT count(*) FROM jobs WHERE state <> 'queued'),
                            (SELECT count(*) FROM predictions)";
        let row = self.sql().query_one(count, &[]).unwrap();
        (row.get(0), row.get(1))
    }

    /// Waits until these jobs are in the database, each once and nothing else, and settled.
    pub(crate) fn await_rows(&self, jobs: &[JobRecord]) {
        let count = i64::try_from(jobs.len()).unwrap();
        eventually(&format!("{count} jobs are settled"), || {
            self.rows() == (count, count) && self.pending() == 0 && self.open().is_empty()
        });
        let rows = self.sql().query("SELECT id FROM jobs", &[]).unwrap();
        let found: BTreeSet<JobId> = rows
            .iter()
            .map(|row| JobId::from(row.get::<_, uuid::Uuid>(0)))
            .collect();
        let expected: BTreeSet<JobId> = jobs.iter().map(|job| job.job.id).collect();
        assert_eq!(found, expected);
    }

    /// Entries that a persister holds.
    pub(crate) fn pending(&self) -> usize {
        let reply: redis::RedisResult<redis::streams::StreamPendingReply> =
            self.redis().xpending(names().events(), keys::GROUP);
        match reply {
            Ok(reply) => reply.count(),
            Err(error) if error.code() == Some("NOGROUP") => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// The server's jobs that are not in the database.
    pub(crate) fn open(&self) -> Vec<String> {
        self.redis().hkeys(names().open(self.server)).unwrap()
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
