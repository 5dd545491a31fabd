//! Programs die, links break: 500 images in, 500 answers and 500 rows out.

use crate::{
    client::{Connection, send_all},
    images::{Sample, sample},
    ledger,
};
use imgsys_local::Stack;
use imgsys_proto::{ClientMessage, ServerMessage, message::Request};
use imgsys_types::{JobId, JobResult};
use std::{
    collections::HashMap,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const IMAGES: usize = 500;
const CONNECTIONS: usize = 8;
const OUTAGE: Duration = Duration::from_secs(3);

fn stack(delay: &str) -> Arc<Stack> {
    let builder = Stack::builder().workers(2);
    // Leases as short as they can be, so that a killed worker's tasks come back soon.
    let builder = builder
        .set("worker.delay", delay)
        .set("worker.lease", "3s")
        .set("persister.claim_after", "3s")
        .set("server.sweep_interval", "1s");
    Arc::new(builder.start().unwrap())
}

fn samples() -> Vec<Sample> {
    (0..IMAGES as u64)
        .map(|number| sample(number, 58))
        .collect()
}

/// Sends 500 images over 8 connections while `disturb` does its worst.
fn send_through(stack: &Arc<Stack>, disturb: impl FnOnce(&Stack)) -> HashMap<JobId, JobResult> {
    let samples = samples();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut senders = JoinSet::new();
    for share in samples.chunks(IMAGES.div_ceil(CONNECTIONS)) {
        let (share, address) = (share.to_vec(), stack.address());
        senders.spawn_on(
            async move { send_all(&address, &share, 8).await },
            runtime.handle(),
        );
    }
    disturb(stack);
    let answers = runtime.block_on(async {
        let mut answers = HashMap::new();
        while let Some(share) = senders.join_next().await {
            answers.extend(share.unwrap());
        }
        answers
    });
    assert_eq!(answers.len(), IMAGES, "an answer for each image");
    answers
}

/// Waits until the server has taken in this many jobs that have not gone through yet.
fn wait_for_spool(stack: &Stack, least: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while runtime.block_on(spool(&stack.address())) < least {
        assert!(Instant::now() < deadline, "the server takes nothing in");
        sleep(Duration::from_millis(5));
    }
}

async fn spool(address: &str) -> u64 {
    let Ok(mut connection) = Connection::open(address).await else {
        return 0;
    };
    match connection
        .ask(&ClientMessage::Status(Request { req: 1 }))
        .await
    {
        ServerMessage::Status(status) => status.spool,
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn nobody_dies() {
    let stack = stack("0s");
    let answers = send_through(&stack, |_| {});
    ledger::check(&stack, &answers);
}

#[test]
fn server_killed() {
    let stack = stack("5ms");
    let answers = send_through(&stack, |stack| {
        for _ in 0..3 {
            wait_for_spool(stack, 10);
            stack.server().kill();
            stack.server().restart().unwrap();
        }
    });
    ledger::check(&stack, &answers);
}

#[test]
fn worker_killed() {
    let stack = stack("5ms");
    let answers = send_through(&stack, |stack| {
        for worker in stack.workers() {
            wait_for_spool(stack, 10);
            worker.kill();
            worker.restart().unwrap();
        }
    });
    ledger::check(&stack, &answers);
}

#[test]
fn persister_killed() {
    let stack = stack("5ms");
    let answers = send_through(&stack, |stack| {
        for _ in 0..3 {
            wait_for_spool(stack, 10);
            stack.persister().kill();
            stack.persister().restart().unwrap();
        }
    });
    ledger::check(&stack, &answers);
}

#[test]
fn redis_away_for_three_seconds() {
    let stack = stack("2ms");
    let answers = send_through(&stack, |stack| {
        wait_for_spool(stack, 10);
        stack.redis().stop();
        sleep(OUTAGE);
        stack.redis().start().unwrap();
    });
    ledger::check(&stack, &answers);
}

#[test]
fn redis_killed() {
    let stack = stack("2ms");
    let answers = send_through(&stack, |stack| {
        wait_for_spool(stack, 10);
        stack.redis().kill();
        stack.redis().start().unwrap();
    });
    ledger::check(&stack, &answers);
}

#[test]
fn redis_loses_all_its_data() {
    let stack = stack("2ms");
    let answers = send_through(&stack, |stack| {
        wait_for_spool(stack, 10);
        stack.redis().wipe().unwrap();
    });
    ledger::check(&stack, &answers);
}

#[test]
fn postgres_away_for_three_seconds() {
    let stack = stack("2ms");
    let answers = send_through(&stack, |stack| {
        wait_for_spool(stack, 10);
        stack.postgres().stop();
        sleep(OUTAGE);
        stack.postgres().start().unwrap();
    });
    ledger::check(&stack, &answers);
}
