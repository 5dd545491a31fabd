//! Clients that mean no good, within the rules of the protocol.

use crate::{
    client::{Connection, PATIENCE, submit},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Request, Submit},
};
use imgsys_types::Digest;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};

/// One that never reads is cut off in the end, whatever it is owed.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_off() {
    let builder = Stack::builder().workers(0).set("limits.idle", "2s");
    let stack = builder.start().unwrap();
    let address = stack.address();
    let mut deaf = Connection::open(&address).await.unwrap();
    let image = Sample {
        bytes: vec![7; 2 << 20],
        ..sample(1, 8)
    };
    let image = Sample {
        sha256: Digest::from_bytes(Sha256::digest(&image.bytes).into()),
        ..image
    };
    let message = submit(1, &image, false);
    deaf.send(&message, &image.bytes).await.unwrap();
    match deaf.next().await.unwrap() {
        ServerMessage::Accepted(_) => {}
        other => panic!("unexpected: {other:?}"),
    }
    // More than the buffers of two kernels.
    let fetch = ClientMessage::Fetch(JobRequest {
        req: 2,
        job: image.job,
    });
    for _ in 0..40 {
        deaf.send(&fetch, &[]).await.unwrap();
    }
    let mut other = Connection::open(&address).await.unwrap();
    let status = ClientMessage::Status(Request { req: 2 });
    let deadline = Instant::now() + PATIENCE;
    loop {
        match other.ask(&status).await {
            ServerMessage::Status(status) if status.connections == 1 => break,
            ServerMessage::Status(_) => assert!(Instant::now() < deadline, "it stays"),
            other => panic!("unexpected: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name is for people: it leads nowhere on the server's disk, and comes back as it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_no_paths() {
    let stack = Stack::builder().workers(0).start().unwrap();
    let mut client = Connection::open(&stack.address()).await.unwrap();
    let names = [
        "../../../../tmp/imgsys-escaped",
        "/etc/imgsys-escaped",
        "..",
        "images/../spool.redb",
        "a\0b",
        "\u{202e}gpj.exe\x1b[2J\r\n",
        "",
    ];
    let mut images = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let image = sample(number as u64, 16);
        let ClientMessage::Submit(plain) = submit(1, &image, false) else {
            unreachable!();
        };
        let message = ClientMessage::Submit(Submit {
            name: (*name).into(),
            ..plain
        });
        client.send(&message, &image.bytes).await.unwrap();
        match client.next().await.unwrap() {
            ServerMessage::Accepted(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
        match client
            .ask(&ClientMessage::Show(JobRequest {
                req: 2,
                job: image.job,
            }))
            .await
        {
            ServerMessage::Job(answer) => {
                assert_eq!(answer.record.job.name, name.replace('\0', "\u{fffd}"));
            }
            other => panic!("unexpected: {other:?}"),
        }
        images.push(image.sha256.to_string());
    }
    images.sort();
    let mut found = Vec::new();
    let root = stack.dir().join("server/images");
    for folder in std::fs::read_dir(&root).unwrap() {
        let folder = folder.unwrap().path();
        // Uploads under way and the lock have places of their own.
        if folder.is_dir() && folder.file_name().unwrap().len() == 2 {
            for file in std::fs::read_dir(folder).unwrap() {
                found.push(file.unwrap().file_name().into_string().unwrap());
            }
        }
    }
    found.sort();
    assert_eq!(found, images, "each image is where its digest says");
    for escaped in ["/tmp/imgsys-escaped", "/etc/imgsys-escaped"] {
        assert!(!std::path::Path::new(escaped).exists(), "{escaped}");
    }
}
