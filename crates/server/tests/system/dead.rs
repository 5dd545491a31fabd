//! A job that has failed by a dead letter can be run once more.

use crate::{
    client::{Connection, PATIENCE, submit},
    images::sample,
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Request},
};
use imgsys_queue::keys::Keys;
use imgsys_types::{FailureReason, JobId, JobRecord, Outcome};
use redis::Commands;
use serde_json::json;
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

async fn show(connection: &mut Connection, job: JobId) -> JobRecord {
    let request = ClientMessage::Show(JobRequest { req: 9, job });
    match connection.ask(&request).await {
        ServerMessage::Job(told) => told.record,
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_job_that_is_requeued_gets_its_next_run() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let client = redis::Client::open(stack.redis().url()).unwrap();
    let mut redis = client.get_connection().unwrap();
    let keys = Keys::of(&stack.redis().url()).unwrap();
    stack.workers()[0].kill();
    let image = sample(1, 58);
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    connection
        .send(&submit(1, &image, true), &image.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(_) => {}
        other => panic!("unexpected: {other:?}"),
    }
    let list = keys.priority_list("imgsys", 5);
    let deadline = Instant::now() + PATIENCE;
    let message: String = loop {
        if let Some(message) = redis.lindex(&list, 0).unwrap() {
            break message;
        }
        assert!(Instant::now() < deadline, "the task is never sent");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };

    // The image is away, so the job fails; it is told and written.
    let images = stack.dir().join("server/images");
    let sha256 = image.sha256.to_string();
    let file = images.join(&sha256[..2]).join(&sha256);
    let away = stack.dir().join("away");
    fs::rename(&file, &away).unwrap();
    stack.workers()[0].start().unwrap();
    let told = match connection.next().await.unwrap() {
        ServerMessage::Result(end) => end.result,
        other => panic!("unexpected: {other:?}"),
    };
    assert!(
        matches!(&told.outcome, Outcome::Failed(f) if f.reason == FailureReason::ImageMissing),
        "{told:?}"
    );
    fs::rename(&away, &file).unwrap();

    // As if it had been set aside.
    let letter = json!({
        "reason": "dead_letter", "detail": "", "queue": "imgsys",
        "at": "2025-11-24T04:00:00.000000+00:00", "message": message,
    });
    let _: i64 = redis.lpush(keys.dead(), letter.to_string()).unwrap();
    let status = connection
        .ask(&ClientMessage::Status(Request { req: 3 }))
        .await;
    match status {
        ServerMessage::Status(status) => assert_eq!(status.queue.unwrap().dead, 1),
        other => panic!("unexpected: {other:?}"),
    }
    let requeue = || {
        Command::new(assert_cmd::cargo::cargo_bin("imgsys-worker"))
            .arg("--config")
            .arg(stack.config_file())
            .args(["dead", "requeue", "--all", "--yes"])
            .output()
            .unwrap()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let done = requeue();
        if done.status.success() {
            break;
        }
        // Its end is on the way to the database.
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("not in the database yet"), "{said}");
        assert!(Instant::now() < deadline, "its end is never written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let deadline = Instant::now() + PATIENCE;
    let result = loop {
        let record = show(&mut connection, image.job).await;
        match record.result {
            Some(result) if result.run == 1 => break result,
            _ => assert!(Instant::now() < deadline, "the next run never ends"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}");
    assert_eq!(result.attempts, 1);
    let rows = tokio::task::block_in_place(|| {
        let url = stack.postgres().url();
        let mut database = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        let query = "SELECT run, state::text FROM predictions ORDER BY run";
        database.query(query, &[]).unwrap()
    });
    let rows: Vec<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(0, "failed".to_owned()), (1, "done".to_owned())]);
}
