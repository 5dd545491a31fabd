//! Whose turn it is: an owner with thousands of images does not make another's single one wait.

use crate::{
    auth::token,
    client::{Connection, submit},
    images::sample,
};
use imgsys_local::Stack;
use imgsys_proto::ServerMessage;
use imgsys_types::{JobResult, Timestamp};
use tempfile::TempDir;

const BACKLOG: u64 = 10_000;
/// Jobs of a server that are in Redis at once.
const WINDOW: usize = 64;
/// How many images go out before an answer to one is looked for.
const IN_FLIGHT: u64 = 64;

/// Submits images of one pixel and waits until all are accepted.
async fn submit_all(connection: &mut Connection, count: u64) {
    let mut accepted = 0;
    for number in 0..count {
        // Two by two pixels are just large enough to differ.
        let image = sample(number, 2);
        connection
            .send(&submit(number, &image, true), &image.bytes)
            .await
            .unwrap();
        if number - accepted == IN_FLIGHT - 1 {
            accept(connection).await;
            accepted += 1;
        }
    }
    for _ in accepted..count {
        accept(connection).await;
    }
}

async fn accept(connection: &mut Connection) {
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(_) => {}
        other => panic!("unexpected: {other:?}"),
    }
}

async fn result(connection: &mut Connection) -> JobResult {
    match connection.next().await.unwrap() {
        ServerMessage::Result(end) => end.result,
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_image_does_not_wait_for_ten_thousand_of_another_owner() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens.toml");
    let anna = token(&file, &["new", "anna's", "--owner", "anna"]);
    let ben = token(&file, &["new", "ben's", "--owner", "ben"]);
    let stack = Stack::builder()
        .workers(1)
        .set("auth.tokens_file", file.to_str().unwrap())
        .set("server.dispatch_window", i64::try_from(WINDOW).unwrap())
        .set("server.durability", "none")
        .set("worker.threads", 1)
        .start()
        .unwrap();
    stack.workers()[0].kill();
    let address = stack.address();
    let mut annas = Connection::open_as(&address, Some(&anna)).await.unwrap();
    submit_all(&mut annas, BACKLOG).await;
    let mut bens = Connection::open_as(&address, Some(&ben)).await.unwrap();
    submit_all(&mut bens, 1).await;

    stack.workers()[0].start().unwrap();
    let bens_end: Timestamp = result(&mut bens).await.finished_at;
    // In the order in which they were done, give or take what the worker has in hand.
    let mut before = 0;
    let mut after = 0;
    while after < WINDOW {
        if result(&mut annas).await.finished_at <= bens_end {
            before += 1;
        } else {
            after += 1;
        }
    }
    // What was in Redis already goes first, and little else.
    assert!(
        before <= 2 * WINDOW,
        "{before} of another owner's images were done before a single one"
    );
}
