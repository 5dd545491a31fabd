//! Images are analysed once more: as the next run of the same job, which is kept as safe as the
//! first.

use crate::{
    client::{Connection, PATIENCE, send_all},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{HistoryRequest, JobRequest, Reanalyze, Reanalyzing, RunOf, RunsRequest, Watch},
};
use imgsys_types::{
    ErrorCode, FailureReason, HistoryFilter, JobId, JobRecord, JobResult, JobState, Outcome,
    Priority,
};
use postgres::{Client, NoTls};
use std::{
    collections::{HashMap, HashSet},
    io,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use uuid::Uuid;

fn reanalyze(jobs: &[JobId], run: u32) -> ClientMessage {
    let runs = jobs.iter().map(|&job| RunOf { job, run }).collect();
    ClientMessage::Reanalyze(Reanalyze {
        req: 1,
        runs,
        priority: Priority::default(),
    })
}

/// What the server says to these runs, once it does not only say that they come too early.
async fn ask(connection: &mut Connection, jobs: &[JobId], run: u32) -> Reanalyzing {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.ask(&reanalyze(jobs, run)).await {
            ServerMessage::Reanalyzing(answer)
                if answer
                    .refused
                    .iter()
                    .any(|refused| refused.code.is_transient()) =>
            {
                assert!(Instant::now() < deadline, "{:?}", answer.refused);
                sleep(Duration::from_millis(20)).await;
            }
            ServerMessage::Reanalyzing(answer) => return answer,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

async fn record(connection: &mut Connection, job: JobId) -> JobRecord {
    let show = ClientMessage::Show(JobRequest { req: 2, job });
    match connection.ask(&show).await {
        ServerMessage::Job(answer) => answer.record,
        other => panic!("unexpected: {other:?}"),
    }
}

async fn runs(connection: &mut Connection, job: JobId, before: Option<u32>) -> Vec<u32> {
    let request = RunsRequest {
        req: 3,
        job,
        before,
    };
    match connection.ask(&ClientMessage::Runs(request)).await {
        ServerMessage::Runs(answer) => {
            assert!(!answer.more);
            answer.results.iter().map(|result| result.run).collect()
        }
        other => panic!("unexpected: {other:?}"),
    }
}

async fn result(connection: &mut Connection, job: JobId) -> JobResult {
    let watch = Watch {
        req: 4,
        jobs: vec![job],
    };
    connection
        .send(&ClientMessage::Watch(watch), &[])
        .await
        .unwrap();
    loop {
        match connection.next().await.unwrap() {
            ServerMessage::Watching(watching) => assert_eq!(watching.unknown, []),
            ServerMessage::Result(end) if end.job == job => return end.result,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_as_many_runs_as_are_asked_for() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let image = sample(1, 8);
    let job = image.job;
    let first = send_all(&address, std::slice::from_ref(&image)).await;
    let mut connection = Connection::open(&address).await.unwrap();
    for run in 1..=3 {
        // Asked for three times it is one run, whether it is under way or has been.
        for _ in 0..3 {
            let answer = ask(&mut connection, &[job, job], run).await;
            assert_eq!((answer.accepted, answer.refused.len()), (vec![job; 2], 0));
        }
        let result = result(&mut connection, job).await;
        assert_eq!(result.run, run);
        assert_eq!(result.outcome, first[&job].outcome, "the same analyzer");
        let newest = record(&mut connection, job).await.result.unwrap();
        assert_eq!(newest, result, "the history shows the newest");
    }
    assert_eq!(runs(&mut connection, job, None).await, [3, 2, 1, 0]);
    assert_eq!(runs(&mut connection, job, Some(2)).await, [1, 0]);
    assert!(runs(&mut connection, job, Some(0)).await.is_empty());

    let answer = ask(&mut connection, &[job], 5).await;
    assert_eq!(answer.refused[0].code, ErrorCode::BadRequest, "4 is next");
    let answer = ask(&mut connection, &[JobId::generate()], 1).await;
    assert_eq!(answer.refused[0].code, ErrorCode::UnknownJob);
    match connection.ask(&reanalyze(&vec![job; 257], 4)).await {
        ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::BadRequest),
        other => panic!("unexpected: {other:?}"),
    }
    // The page is where it was, and the analyzer is found or left out.
    let mut page = async |filter| {
        let request = HistoryRequest {
            req: 5,
            limit: 10,
            after: None,
            filter,
            owner: None,
        };
        match connection.ask(&ClientMessage::History(request)).await {
            ServerMessage::Page(page) => page.jobs.len(),
            other => panic!("unexpected: {other:?}"),
        }
    };
    let simulated = Some("simulated".to_owned());
    let filter = HistoryFilter {
        analyzer: simulated.clone(),
        except_version: Some("0".into()),
        ..HistoryFilter::default()
    };
    assert_eq!(page(filter).await, 1);
    let filter = HistoryFilter {
        analyzer: simulated,
        except_version: Some("1".into()),
        ..HistoryFilter::default()
    };
    assert_eq!(page(filter).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_looked_at_again_is_told_and_stays_as_it_was() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let (gone, here) = (sample(1, 8), sample(2, 8));
    let first = send_all(&address, &[gone.clone(), here.clone()]).await;
    let mut connection = Connection::open(&address).await.unwrap();
    assert_eq!(
        ask(&mut connection, &[here.job], 1).await.accepted,
        [here.job]
    );
    assert_eq!(result(&mut connection, here.job).await.run, 1);
    // The server keeps images under their digest.
    let digest = gone.sha256.to_string();
    let dir = stack.dir().join("server/images");
    std::fs::remove_file(dir.join(&digest[..2]).join(&digest)).unwrap();

    let answer = ask(&mut connection, &[gone.job, here.job], 2).await;
    assert_eq!(answer.refused[0].code, ErrorCode::BadRequest, "1 is next");
    assert_eq!(answer.accepted, [here.job], "others are not held up");
    let answer = ask(&mut connection, &[gone.job], 1).await;
    assert_eq!(answer.refused[0].code, ErrorCode::ImageMissing);
    let kept = record(&mut connection, gone.job).await;
    assert_eq!(kept.result.as_ref(), first.get(&gone.job));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_the_one_before_and_can_be_cancelled() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let image = sample(1, 8);
    let job = image.job;
    send_all(&address, std::slice::from_ref(&image)).await;
    tokio::task::block_in_place(|| stack.workers()[0].stop());
    let mut connection = Connection::open(&address).await.unwrap();
    assert_eq!(ask(&mut connection, &[job], 1).await.accepted, [job]);
    let answer = ask(&mut connection, &[job], 2).await;
    assert_eq!(answer.refused[0].code, ErrorCode::NotFinished);
    // While it is under way the result before it stands.
    let standing = record(&mut connection, job).await;
    assert_eq!(standing.result.as_ref().map(|result| result.run), Some(0));
    assert_eq!(standing.state(), JobState::Done);

    let deadline = Instant::now() + PATIENCE;
    let cancel = ClientMessage::Cancel(JobRequest { req: 6, job });
    loop {
        match connection.ask(&cancel).await {
            ServerMessage::Cancelled(_) => break,
            ServerMessage::Rejected(rejected) if rejected.code.is_transient() => {
                assert!(Instant::now() < deadline, "{}", rejected.text);
                sleep(Duration::from_millis(20)).await;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    let cancelled = result(&mut connection, job).await;
    assert_eq!(cancelled.run, 1);
    match cancelled.outcome {
        Outcome::Failed(failure) => assert_eq!(failure.reason, FailureReason::Cancelled),
        Outcome::Done(_) => panic!("cancelled, yet done"),
    }
    tokio::task::block_in_place(|| stack.workers()[0].restart().unwrap());
    assert_eq!(ask(&mut connection, &[job], 2).await.accepted, [job]);
    let next = result(&mut connection, job).await;
    assert_eq!((next.run, next.outcome.state()), (2, JobState::Done));
    assert_eq!(runs(&mut connection, job, None).await, [2, 1, 0]);
}

/// The jobs' next run, asked for and waited for on as many connections as it takes.
async fn rerun(address: &str, jobs: &[JobId], run: u32) -> HashMap<JobId, JobResult> {
    let mut results = HashMap::new();
    let mut accepted = HashSet::new();
    while results.len() < jobs.len() {
        let progress = rerun_on_one(address, jobs, run, &mut accepted, &mut results);
        if let Err(error) = progress.await {
            eprintln!("connection lost: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    results
}

async fn rerun_on_one(
    address: &str,
    jobs: &[JobId],
    run: u32,
    accepted: &mut HashSet<JobId>,
    results: &mut HashMap<JobId, JobResult>,
) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    while accepted.len() < jobs.len() {
        let open: Vec<JobId> = jobs
            .iter()
            .copied()
            .filter(|job| !accepted.contains(job))
            .collect();
        connection.send(&reanalyze(&open, run), &[]).await?;
        match connection.next().await? {
            ServerMessage::Reanalyzing(answer) => {
                accepted.extend(answer.accepted);
                assert!(
                    answer
                        .refused
                        .iter()
                        .all(|refused| refused.code.is_transient())
                );
            }
            ServerMessage::Rejected(rejected) if rejected.code.is_transient() => {}
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
        sleep(Duration::from_millis(10)).await;
    }
    let open = jobs
        .iter()
        .copied()
        .filter(|job| !results.contains_key(job));
    let watch = Watch {
        req: 1,
        jobs: open.collect(),
    };
    connection.send(&ClientMessage::Watch(watch), &[]).await?;
    while results.len() < jobs.len() {
        match connection.next().await? {
            ServerMessage::Watching(watching) => assert_eq!(watching.unknown, []),
            ServerMessage::Result(end) => {
                assert_eq!(end.result.run, run, "the run that is under way");
                results.insert(end.job, end.result);
            }
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
    }
    Ok(())
}

/// Has images analysed, and once more while `disturb` does its worst.
fn twice_through(disturb: impl FnOnce(&Stack)) {
    const IMAGES: u64 = 200;
    let stack = Stack::builder().workers(2);
    let stack = stack
        .set("worker.delay", "10ms")
        .set("worker.lease", "3s")
        .set("persister.claim_after", "3s")
        .set("server.sweep_interval", "1s")
        .start()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let images: Vec<Sample> = (0..IMAGES).map(|number| sample(number, 8)).collect();
    let address = stack.address();
    let first = runtime.block_on(send_all(&address, &images));
    let jobs: Vec<JobId> = first.keys().copied().collect();
    let second = {
        let (address, jobs) = (address.clone(), jobs.clone());
        runtime.spawn(async move { rerun(&address, &jobs, 1).await })
    };
    disturb(&stack);
    let second = runtime.block_on(second).unwrap();

    let mut client = Client::connect(&stack.postgres().url(), NoTls).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let rows = loop {
        let rows = client
            .query(
                "SELECT p.job_id, p.run, p.label, p.finished_at::text, j.run
                 FROM predictions p JOIN jobs j ON j.id = p.job_id",
                &[],
            )
            .unwrap();
        if rows.len() >= 2 * jobs.len() {
            break rows;
        }
        assert!(Instant::now() < deadline, "{} rows", rows.len());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(rows.len(), 2 * jobs.len(), "two runs a job, no more");
    for row in rows {
        let job = JobId::from(row.get::<_, Uuid>(0));
        let told = match row.get::<_, i64>(1) {
            0 => &first[&job],
            _ => &second[&job],
        };
        let Outcome::Done(analysis) = &told.outcome else {
            panic!("{job}: {told:?}");
        };
        assert_eq!(row.get::<_, String>(2), analysis.label);
        assert_eq!(row.get::<_, i64>(4), 1, "the newest run is the job's");
    }
    // Answer and row are the same, to the microsecond.
    let mut connection = runtime.block_on(Connection::open(&address)).unwrap();
    for &job in &jobs[..10] {
        let record = runtime.block_on(record(&mut connection, job));
        assert_eq!(record.result.as_ref(), Some(&second[&job]));
    }
}

#[test]
fn nobody_dies() {
    twice_through(|_| {});
}

#[test]
fn server_killed() {
    twice_through(|stack| {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(200));
            stack.server().kill();
            stack.server().restart().unwrap();
        }
    });
}

#[test]
fn worker_and_persister_killed() {
    twice_through(|stack| {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(200));
            for service in [&stack.workers()[0], stack.persister()] {
                service.kill();
                service.restart().unwrap();
            }
        }
    });
}

#[test]
fn redis_loses_all_its_data() {
    twice_through(|stack| {
        std::thread::sleep(Duration::from_millis(300));
        stack.redis().wipe().unwrap();
    });
}
