//! Images that look alike are found as soon as they are analysed, and only by who has sent them.

use crate::{
    auth::token,
    client::{Connection, PATIENCE, submit},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Similar, SimilarRequest},
};
use imgsys_types::{Digest, ErrorCode, JobId};
use std::{io, time::Instant};
use tempfile::TempDir;

/// A picture of 32 × 32 pixels with something to see, as light as `shade` in its darkest part.
fn picture(number: u32, shade: u8) -> Sample {
    let mut sample = sample(0, 32);
    for (at, pixel) in sample.bytes[54..].chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % 32, at / 32);
        // Patches of 4 × 4, whose pattern is that of the number's bits.
        let patch = (x / 4 + 8 * (y / 4)) % 32;
        let light = number.rotate_left(7).wrapping_mul(0x9e37_79b9) >> patch & 1 == 1;
        pixel.fill(if light { 240 } else { shade });
    }
    Sample {
        sha256: Digest::from_bytes(
            sha2::Digest::finalize(sha2::Digest::chain_update(
                <sha2::Sha256 as sha2::Digest>::new(),
                &sample.bytes,
            ))
            .into(),
        ),
        ..sample
    }
}

/// The same bytes as another job.
fn again(sample: &Sample) -> Sample {
    Sample {
        job: JobId::generate(),
        ..sample.clone()
    }
}

async fn send(connection: &mut Connection, sample: &Sample) {
    connection
        .send(&submit(1, sample, true), &sample.bytes)
        .await
        .unwrap();
    loop {
        match connection.next().await.unwrap() {
            ServerMessage::Accepted(_) => {}
            ServerMessage::Result(_) => return,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn request(job: Option<JobId>, sha256: Option<Digest>, distance: u32) -> ClientMessage {
    ClientMessage::Similar(SimilarRequest {
        req: 7,
        of_job: job,
        of_image: sha256,
        distance,
        limit: 50,
    })
}

async fn similar(connection: &mut Connection, message: ClientMessage) -> Similar {
    match connection.ask(&message).await {
        ServerMessage::Similar(answer) => answer,
        other => panic!("unexpected: {other:?}"),
    }
}

async fn refused(connection: &mut Connection, message: ClientMessage) -> ErrorCode {
    match connection.ask(&message).await {
        ServerMessage::Rejected(rejected) => rejected.code,
        other => panic!("unexpected: {other:?}"),
    }
}

fn found(answer: &Similar) -> Vec<(u32, JobId)> {
    let jobs = answer.jobs.iter();
    jobs.map(|near| (near.distance, near.record.job.id))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_alike_is_found_at_once_and_later() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let (first, lighter, other) = (picture(1, 10), picture(1, 30), picture(2, 10));
    let same = again(&first);
    let flat = sample(u64::from_le_bytes([0x80; 8]), 8);
    let broken = Sample {
        bytes: b"no image".to_vec(),
        ..picture(3, 1)
    };
    let broken = Sample {
        sha256: Digest::from_bytes(<sha2::Sha256 as sha2::Digest>::digest(&broken.bytes).into()),
        ..broken
    };
    for image in [&first, &other, &lighter, &same, &flat, &broken] {
        send(&mut connection, image).await;
    }
    // Each was told; so each is found, be it in the database yet or not. And so it stays.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = false;
        let answer = similar(&mut connection, request(Some(first.job), None, 4)).await;
        assert_eq!((answer.job, answer.sha256), (first.job, first.sha256));
        assert_eq!(found(&answer)[0], (0, same.job));
        assert!(found(&answer).iter().any(|(_, job)| *job == lighter.job));
        assert_eq!((answer.jobs.len(), answer.more), (2, false));
        let answer = similar(&mut connection, request(None, Some(first.sha256), 4)).await;
        assert_eq!(answer.job, same.job, "the newest with these bytes");
        assert!(found(&answer).contains(&(0, first.job)));
        assert_eq!(answer.jobs.len(), 2);
        if let ServerMessage::Status(answer) = connection
            .ask(&ClientMessage::Status(imgsys_proto::message::Request {
                req: 1,
            }))
            .await
        {
            status = answer.spool == 0;
        }
        if status {
            break;
        }
        assert!(Instant::now() < deadline, "the spool is never empty");
    }
    let (job, sha256) = (Some(first.job), Some(first.sha256));
    let by_job = |job| request(Some(job), None, 8);
    for (message, code) in [
        (by_job(JobId::generate()), ErrorCode::UnknownJob),
        (
            request(None, Some(picture(9, 9).sha256), 8),
            ErrorCode::UnknownJob,
        ),
        (by_job(flat.job), ErrorCode::NotComparable),
        (by_job(broken.job), ErrorCode::NotComparable),
        (
            request(None, Some(flat.sha256), 8),
            ErrorCode::NotComparable,
        ),
        (request(job, sha256, 8), ErrorCode::BadRequest),
        (request(None, None, 8), ErrorCode::BadRequest),
        (request(job, None, 11), ErrorCode::BadRequest),
    ] {
        assert_eq!(refused(&mut connection, message).await, code);
    }
    stack.postgres().stop();
    assert_eq!(
        refused(&mut connection, by_job(first.job)).await,
        ErrorCode::Unavailable
    );
}

async fn open(address: &str, secret: &str) -> Connection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The server may not have heard of the token yet.
        match Connection::open_as(address, Some(secret)).await {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_finds_what_others_have_sent() -> io::Result<()> {
    let dir = TempDir::new()?;
    let file = dir.path().join("tokens.toml");
    let anna = token(&file, &["new", "laptop", "--owner", "anna"]);
    let bert = token(&file, &["new", "phone", "--owner", "bert"]);
    let boss = ["new", "desk", "--owner", "boss", "--scopes", "admin"];
    let boss = token(&file, &boss);
    let builder = Stack::builder().workers(1);
    let builder = builder.set("auth.tokens_file", file.to_str().unwrap());
    let stack = builder.start().unwrap();
    let mut anna = open(&stack.address(), &anna).await;
    let mut bert = open(&stack.address(), &bert).await;
    let (hers, lighter) = (picture(1, 10), picture(1, 30));
    send(&mut anna, &hers).await;
    send(&mut anna, &lighter).await;
    let unknown = request(None, Some(hers.sha256), 8);
    assert_eq!(refused(&mut bert, unknown).await, ErrorCode::UnknownJob);
    // He has the same image, and still nothing else.
    let his = again(&hers);
    send(&mut bert, &his).await;
    for message in [
        request(Some(his.job), None, 10),
        request(None, Some(his.sha256), 10),
    ] {
        let answer = similar(&mut bert, message).await;
        assert_eq!((answer.job, found(&answer)), (his.job, vec![]));
    }
    let answer = similar(&mut anna, request(Some(hers.job), None, 10)).await;
    assert_eq!(answer.jobs.len(), 1);
    assert_eq!(answer.jobs[0].record.job.id, lighter.job);
    // Who reaches all jobs finds what is its owner's, as the owner would.
    let mut boss = open(&stack.address(), &boss).await;
    let seen = similar(&mut boss, request(Some(hers.job), None, 10)).await;
    assert_eq!(found(&seen), found(&answer));
    Ok(())
}
