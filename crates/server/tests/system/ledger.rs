//! The promise, checked in the database: every accepted job has exactly one row, and its row says
//! what its client was told.

use imgsys_local::Stack;
use imgsys_types::{JobId, JobResult, Outcome};
use postgres::{Client, NoTls};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The longest that the database may lag behind.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until all is quiet, then checks every answer against its row.
pub(crate) fn check(stack: &Stack, answers: &HashMap<JobId, JobResult>) {
    let mut client = Client::connect(&stack.postgres().url(), NoTls).unwrap();
    settle(&mut client, answers.len());
    let rows = client
        .query(
            "SELECT j.id, j.state::text, p.label, p.confidence, p.reason
             FROM jobs j JOIN predictions p ON p.job_id = j.id AND p.run = 0",
            &[],
        )
        .unwrap();
    assert_eq!(rows.len(), answers.len(), "one prediction a job, no more");
    for row in rows {
        let id = JobId::from(row.get::<_, Uuid>(0));
        let answer = answers.get(&id).expect("no row without an answer");
        let state: String = row.get(1);
        assert_eq!(state, answer.outcome.state().as_str(), "{id}");
        match &answer.outcome {
            Outcome::Done(analysis) => {
                assert_eq!(
                    row.get::<_, Option<String>>(2).as_ref(),
                    Some(&analysis.label)
                );
                assert_eq!(row.get::<_, Option<f64>>(3), Some(analysis.confidence));
            }
            Outcome::Failed(failure) => {
                let reason: Option<String> = row.get(4);
                assert_eq!(reason.as_deref(), Some(failure.reason.as_str()));
            }
        }
    }
    let total: i64 = client
        .query_one("SELECT count(*) FROM jobs", &[])
        .unwrap()
        .get(0);
    assert_eq!(
        usize::try_from(total).unwrap(),
        answers.len(),
        "rows of jobs"
    );
}

fn settle(client: &mut Client, expected: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let done: i64 = client
            .query_one("SELECT count(*) FROM jobs WHERE state <> 'queued'", &[])
            .unwrap()
            .get(0);
        let done = usize::try_from(done).unwrap();
        if done >= expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{done} of {expected} rows after {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
