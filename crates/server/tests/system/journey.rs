//! What a client can ask for, and what it gets.

use crate::{
    client::{Connection, send_all, submit},
    images::{Sample, sample},
    ledger,
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Request, Watch},
};
use imgsys_types::{
    Digest, ErrorCode, FailureReason, HistoryFilter, JobId, JobRecord, JobResult, JobState, Outcome,
};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// Waits for this job's end.
async fn result_of(connection: &mut Connection, job: JobId) -> JobResult {
    loop {
        match connection.next().await.unwrap() {
            ServerMessage::Result(end) if end.job == job => return end.result,
            ServerMessage::Result(_) | ServerMessage::Accepted(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

async fn page(connection: &mut Connection, filter: HistoryFilter, limit: u32) -> Vec<JobRecord> {
    let mut jobs = Vec::new();
    let mut after = None;
    loop {
        let page = connection.page(limit, after, filter.clone()).await.unwrap();
        assert!(!page.partial);
        assert!(page.jobs.len() <= limit as usize);
        jobs.extend(page.jobs);
        after = page.next;
        if after.is_none() {
            return jobs;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_submit_to_the_history() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();

    // The bytes are asked for, then accepted, then the answer comes.
    let image = sample(1, 58);
    let asked = connection.ask(&submit(1, &image, true)).await;
    assert!(
        matches!(asked, ServerMessage::SendBody(ref ask) if ask.req == 1),
        "{asked:?}"
    );
    connection
        .send(&submit(2, &image, true), &image.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(accepted) => assert!(!accepted.duplicate),
        other => panic!("unexpected: {other:?}"),
    }
    let first = result_of(&mut connection, image.job).await;
    let Outcome::Done(analysis) = &first.outcome else {
        panic!("not analysed: {first:?}");
    };
    assert_eq!(analysis.properties.format, "bmp");
    assert_eq!(
        (analysis.properties.width, analysis.properties.height),
        (58, 58)
    );
    assert_eq!(analysis.analyzer.name, "simulated");

    // The same image as another job: no bytes are needed, and the answer is the same.
    let again = Sample {
        job: JobId::generate(),
        ..image.clone()
    };
    match connection.ask(&submit(3, &again, true)).await {
        ServerMessage::Accepted(accepted) => assert!(accepted.duplicate),
        other => panic!("unexpected: {other:?}"),
    }
    let second = result_of(&mut connection, again.job).await;
    assert_eq!(second.outcome, first.outcome);

    // The same job once more: the same answer, no new job.
    match connection.ask(&submit(4, &image, true)).await {
        ServerMessage::Accepted(accepted) => assert!(accepted.duplicate),
        other => panic!("unexpected: {other:?}"),
    }
    assert_eq!(result_of(&mut connection, image.job).await, first);

    // What was told is in the next history, newest first.
    let jobs = page(&mut connection, HistoryFilter::default(), 50).await;
    let ids: Vec<JobId> = jobs.iter().map(|record| record.job.id).collect();
    assert_eq!(ids, [again.job, image.job]);
    assert_eq!(jobs[1].result.as_ref(), Some(&first));
    let answers = HashMap::from([(image.job, first), (again.job, second)]);
    tokio::task::block_in_place(|| ledger::check(&stack, &answers));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_taken_is_a_conflict() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let image = sample(1, 8);
    connection
        .send(&submit(1, &image, true), &image.bytes)
        .await
        .unwrap();
    let first = result_of(&mut connection, image.job).await;
    let other = Sample {
        job: image.job,
        ..sample(2, 8)
    };
    connection
        .send(&submit(2, &other, true), &other.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::Conflict),
        unexpected => panic!("unexpected: {unexpected:?}"),
    }

    // Long after, when the server has forgotten: accepted, and ended as a conflict.
    let mut answers = send_all(&stack.address(), &[sample(3, 8)]).await;
    let old = *answers.keys().next().unwrap();
    answers.insert(image.job, first);
    tokio::task::block_in_place(|| {
        stack.server().kill();
        stack.server().restart().unwrap();
    });
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let other = Sample {
        job: old,
        ..sample(4, 8)
    };
    connection
        .send(&submit(1, &other, true), &other.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::Conflict),
        ServerMessage::Accepted(_) => match result_of(&mut connection, old).await.outcome {
            Outcome::Failed(failure) => assert_eq!(failure.reason, FailureReason::Conflict),
            Outcome::Done(_) => panic!("another image's job was done over"),
        },
        unexpected => panic!("unexpected: {unexpected:?}"),
    }
    tokio::task::block_in_place(|| ledger::check(&stack, &answers));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_shown_watched_fetched_and_cancelled() {
    let stack = Stack::builder().workers(0).start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let image = sample(1, 300);
    connection
        .send(&submit(1, &image, false), &image.bytes)
        .await
        .unwrap();
    assert!(matches!(
        connection.next().await.unwrap(),
        ServerMessage::Accepted(_)
    ));

    let request = JobRequest {
        req: 2,
        job: image.job,
    };
    match connection.ask(&ClientMessage::Show(request)).await {
        ServerMessage::Job(answer) => assert_eq!(answer.record.state(), JobState::Queued),
        other => panic!("unexpected: {other:?}"),
    }

    let unknown = JobId::generate();
    let watch = Watch {
        req: 3,
        jobs: vec![image.job, unknown],
    };
    match connection.ask(&ClientMessage::Watch(watch)).await {
        ServerMessage::Watching(watching) => assert_eq!(watching.unknown, [unknown]),
        other => panic!("unexpected: {other:?}"),
    }

    match connection.ask(&ClientMessage::Fetch(request)).await {
        ServerMessage::Image(head) => assert_eq!(head.sha256, image.sha256),
        other => panic!("unexpected: {other:?}"),
    }
    let mut hash = Sha256::new();
    while let Some(chunk) = connection.frames.body_chunk().await.unwrap() {
        hash.update(&chunk);
    }
    assert_eq!(Digest::from_bytes(hash.finalize().into()), image.sha256);

    // Cancelled: told to the one who asked and, as a result, to the one who watches. Sent again
    // while the task is on its way to Redis, as clients do.
    let mut cancelled = false;
    let mut told = None;
    while !(cancelled && told.is_some()) {
        if !cancelled {
            connection
                .send(&ClientMessage::Cancel(request), &[])
                .await
                .unwrap();
        }
        match connection.next().await.unwrap() {
            ServerMessage::Cancelled(_) => cancelled = true,
            ServerMessage::Rejected(refusal) => {
                assert!(cancelled || refusal.code.is_transient(), "{refusal:?}");
            }
            ServerMessage::Result(end) => told = Some(end.result),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let told = told.unwrap();
    match &told.outcome {
        Outcome::Failed(failure) => assert_eq!(failure.reason, FailureReason::Cancelled),
        Outcome::Done(_) => panic!("cancelled, yet done"),
    }
    let answers = HashMap::from([(image.job, told)]);
    tokio::task::block_in_place(|| ledger::check(&stack, &answers));

    match connection
        .ask(&ClientMessage::Status(Request { req: 9 }))
        .await
    {
        ServerMessage::Status(status) => {
            assert!(status.database && status.queue.is_some());
            assert_eq!(status.connections, 1);
        }
        ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::AlreadyFinished),
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_filters_and_pages() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let samples: Vec<Sample> = (0..30).map(|number| sample(number, 16)).collect();
    let answers = send_all(&stack.address(), &samples).await;
    let mut connection = Connection::open(&stack.address()).await.unwrap();

    let all = page(&mut connection, HistoryFilter::default(), 7).await;
    assert_eq!(all.len(), 30, "pages neither lose nor repeat a job");
    assert!(
        all.is_sorted_by(|a, b| {
            (a.job.submitted_at, a.job.id) > (b.job.submitted_at, b.job.id)
        })
    );

    let label = match &answers.values().next().unwrap().outcome {
        Outcome::Done(analysis) => analysis.label.clone(),
        Outcome::Failed(failure) => panic!("{failure}"),
    };
    let with_label = |record: &&JobRecord| {
        matches!(&record.result.as_ref().unwrap().outcome,
            Outcome::Done(analysis) if analysis.label == label)
    };
    let filter = HistoryFilter {
        label: Some(label.clone()),
        ..HistoryFilter::default()
    };
    let found = page(&mut connection, filter, 7).await;
    assert_eq!(found.len(), all.iter().filter(with_label).count());
    assert!(found.iter().all(|record| with_label(&record)));

    let name = all[3].job.name.clone();
    let filter = HistoryFilter {
        name: Some(name.clone()),
        ..HistoryFilter::default()
    };
    let found = page(&mut connection, filter, 7).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].job.name, name);

    let filter = HistoryFilter {
        until: Some(all[10].job.submitted_at),
        state: Some(JobState::Done),
        ..HistoryFilter::default()
    };
    let found = page(&mut connection, filter, 7).await;
    assert_eq!(found.len(), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_while_redis_and_postgres_are_away() {
    let stack = Stack::builder().workers(1).start().unwrap();
    stack.redis().stop();
    stack.postgres().stop();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let image = sample(1, 58);
    connection
        .send(&submit(1, &image, true), &image.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(accepted) => assert_eq!(accepted.job, image.job),
        other => panic!("unexpected: {other:?}"),
    }
    // The history says what it knows, and that it is not all.
    let page = connection.page(10, None, HistoryFilter::default()).await;
    let page = page.unwrap();
    assert!(page.partial);
    assert_eq!(page.jobs.len(), 1);
    stack.postgres().start().unwrap();
    stack.redis().start().unwrap();
    let told = result_of(&mut connection, image.job).await;
    let answers = HashMap::from([(image.job, told)]);
    tokio::task::block_in_place(|| ledger::check(&stack, &answers));
}
