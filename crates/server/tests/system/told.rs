//! What a client was told is what the history says, even if a run came to have two results.

use crate::{
    client::{Connection, PATIENCE, submit},
    images::sample,
};
use imgsys_history::Writer;
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Request},
};
use imgsys_types::{Failure, FailureReason, JobRecord, JobResult};
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_that_was_told_replaces_another_in_the_database() {
    let stack = Stack::builder()
        .workers(1)
        .set("server.sweep_interval", "200ms")
        .start()
        .unwrap();
    stack.persister().pause();
    let image = sample(1, 58);
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let submit = submit(1, &image, true);
    connection.send(&submit, &image.bytes).await.unwrap();
    let told = loop {
        match connection.next().await.unwrap() {
            ServerMessage::Accepted(_) => {}
            ServerMessage::Result(end) => break end.result,
            other => panic!("unexpected: {other:?}"),
        }
    };
    let show = ClientMessage::Show(JobRequest {
        req: 2,
        job: image.job,
    });
    let ServerMessage::Job(shown) = connection.ask(&show).await else {
        panic!("the job is not shown")
    };

    // As a persister does that had read another worker's result before Redis lost all it had.
    let failure = Failure::new(FailureReason::Corrupt, "half a file");
    let other = JobRecord {
        result: Some(JobResult::failed(0, failure)),
        ..shown.record.clone()
    };
    let url = stack.postgres().url();
    let written = tokio::task::block_in_place(|| Writer::connect(&url).unwrap().write(&[&other]));
    assert!(written.unwrap().superseded.is_empty());
    stack.persister().resume();

    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = connection
            .ask(&ClientMessage::Status(Request { req: 3 }))
            .await;
        let ServerMessage::Status(status) = status else {
            panic!("unexpected: {status:?}")
        };
        if status.spool == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "it stays in the spool");
        sleep(Duration::from_millis(20)).await;
    }
    let ServerMessage::Job(shown) = connection.ask(&show).await else {
        panic!("the job is not shown")
    };
    let found = shown.record.result.unwrap();
    assert_eq!(found.finished_at, told.finished_at);
    assert_eq!(found.outcome, told.outcome);
}
