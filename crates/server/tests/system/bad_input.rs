//! What no client should send, and what it gets: a goodbye or a refusal with a code, and nobody
//! else is disturbed.

use crate::{
    client::{Connection, PATIENCE, send_all, submit},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, FrameReader, ServerMessage, VERSION, encode,
    message::{Hello, Request, Submit},
};
use imgsys_types::{Digest, ErrorCode, JobId, Outcome};
use std::time::Instant;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// What the server says last to a client that sends just these bytes.
async fn goodbye_for(address: &str, bytes: &[u8]) -> ErrorCode {
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(bytes).await.unwrap();
    let mut frames = FrameReader::new(read);
    loop {
        let next = timeout(PATIENCE, frames.next::<ServerMessage>());
        match next.await.expect("no goodbye").unwrap() {
            Some((ServerMessage::Goodbye(goodbye), 0)) => return goodbye.code,
            Some((ServerMessage::Welcome(_), 0)) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn frame(message: &ClientMessage) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(message, 0, &mut frame).unwrap();
    frame
}

/// A frame with this head, whatever it is, and no body.
fn head(head: &[u8]) -> Vec<u8> {
    let len = u32::try_from(head.len()).unwrap().to_be_bytes();
    [&len, &[0; 4], head].concat()
}

/// As many arrays or tags, one in the other, as there is room for in a head.
fn deep(item: u8) -> Vec<u8> {
    let mut head = vec![0xa1, 0x61, b'x'];
    head.resize(60_000, item);
    head.push(0);
    head
}

fn hello(version: u32) -> ClientMessage {
    ClientMessage::Hello(Hello {
        version,
        program: "test".into(),
        token: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_and_wrong_beginnings_get_a_goodbye() {
    let builder = Stack::builder().workers(1);
    let builder = builder
        .set("limits.handshake", "1s")
        .set("limits.idle", "1s");
    let stack = builder.start().unwrap();
    let address = &stack.address();
    let ping = ClientMessage::Ping(Request { req: 1 });
    let behind_hello = |bytes: &[u8]| [frame(&hello(VERSION)), bytes.to_vec()].concat();

    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (bytes, code) in [
        (http.to_vec(), ErrorCode::BadFrame),
        (vec![0xff; 64], ErrorCode::BadFrame),
        (vec![0; 64], ErrorCode::BadFrame),
        (frame(&ping), ErrorCode::HelloExpected),
        (frame(&hello(VERSION + 1)), ErrorCode::UnsupportedVersion),
        (Vec::new(), ErrorCode::TimedOut),
        (frame(&hello(VERSION))[..9].to_vec(), ErrorCode::TimedOut),
        (behind_hello(&frame(&ping)[..9]), ErrorCode::TimedOut),
        (behind_hello(b""), ErrorCode::TimedOut),
        (behind_hello(&frame(&hello(VERSION))), ErrorCode::BadMessage),
        // A head that is CBOR, but no message.
        (
            behind_hello(b"\0\0\0\x01\0\0\0\0\xa0"),
            ErrorCode::BadMessage,
        ),
        (behind_hello(b"\0\0\0\x01\0\0\0\0\xff"), ErrorCode::BadFrame),
        (
            behind_hello(b"\0\0\0\x02\0\0\0\0\xa0\0"),
            ErrorCode::BadFrame,
        ),
        // Lengths that nobody has: of the head, of the body, of what is within the head.
        (b"\x7f\xff\xff\xff\0\0\0\0".to_vec(), ErrorCode::BadFrame),
        (
            behind_hello(&[&frame(&ping)[..4], &[0xff; 4], &frame(&ping)[8..]].concat()),
            ErrorCode::BadMessage,
        ),
        (
            behind_hello(&head(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff")),
            ErrorCode::BadFrame,
        ),
        (
            behind_hello(&head(b"\xa1\x7b\0\0\0\x7f\xff\xff\xff\xff")),
            ErrorCode::BadFrame,
        ),
        (
            behind_hello(&head(b"\xa1\x61x\x9a\xff\xff\xff\xff")),
            ErrorCode::BadFrame,
        ),
        (
            behind_hello(&head(b"\xa1\x61x\x5a\xff\xff\xff\xff")),
            ErrorCode::BadFrame,
        ),
        // Without an end, or deeper than may be.
        (behind_hello(&head(b"\xbf\xff")), ErrorCode::BadFrame),
        (
            behind_hello(&head(b"\xa1\x61x\x9f\xff")),
            ErrorCode::BadFrame,
        ),
        (
            behind_hello(&head(b"\xa1\x61x\x5f\x41a\xff")),
            ErrorCode::BadFrame,
        ),
        (behind_hello(&head(&deep(0x81))), ErrorCode::BadFrame),
        (behind_hello(&head(&deep(0xc6))), ErrorCode::BadFrame),
    ] {
        assert_eq!(goodbye_for(address, &bytes).await, code, "{bytes:x?}");
    }

    let answers = send_all(address, &[sample(1, 16)]).await;
    assert!(matches!(
        answers.values().next().unwrap().outcome,
        Outcome::Done(_)
    ));
}

/// What a submit is refused with; the connection goes on.
async fn refusal(connection: &mut Connection, submit: Submit, body: &[u8]) -> ErrorCode {
    let message = ClientMessage::Submit(submit);
    connection.send(&message, body).await.unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Rejected(rejected) => rejected.code,
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_submits_are_refused_and_the_connection_goes_on() {
    let builder = Stack::builder().workers(1).set("limits.max_image", "100kB");
    let stack = builder.start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    assert_eq!(connection.welcome.limits.max_image, 100_000);
    let image = sample(1, 58);
    let ClientMessage::Submit(good) = submit(1, &image, true) else {
        unreachable!();
    };
    let empty = Submit {
        size: 0,
        ..good.clone()
    };
    let huge = Submit {
        size: 200_000,
        ..good.clone()
    };
    let short = Submit {
        size: good.size + 1,
        ..good.clone()
    };
    let other = Submit {
        sha256: Digest::from_bytes([7; 32]),
        ..good.clone()
    };
    let big = sample(2, 180);
    let ClientMessage::Submit(big_submit) = submit(1, &big, true) else {
        unreachable!();
    };
    let big_other = Submit {
        sha256: Digest::from_bytes([7; 32]),
        job: JobId::generate(),
        ..big_submit
    };
    assert_eq!(
        refusal(&mut connection, empty, &[]).await,
        ErrorCode::EmptyImage
    );
    assert_eq!(
        refusal(&mut connection, huge.clone(), &[]).await,
        ErrorCode::ImageTooLarge
    );
    let body = vec![0; 200_000];
    assert_eq!(
        refusal(&mut connection, huge, &body).await,
        ErrorCode::ImageTooLarge
    );
    assert_eq!(
        refusal(&mut connection, short, &image.bytes).await,
        ErrorCode::SizeMismatch
    );
    assert_eq!(
        refusal(&mut connection, other, &image.bytes).await,
        ErrorCode::DigestMismatch
    );
    assert_eq!(
        refusal(&mut connection, big_other, &big.bytes).await,
        ErrorCode::DigestMismatch
    );

    connection
        .send(&ClientMessage::Submit(good), &image.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(accepted) => assert!(!accepted.duplicate),
        unexpected => panic!("unexpected: {unexpected:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_too_long_to_be_thrown_away_ends_the_connection() {
    let builder = Stack::builder().workers(1).set("limits.max_image", "1MB");
    let stack = builder.start().unwrap();
    let huge = Sample {
        bytes: vec![0; 8 << 20],
        ..sample(1, 8)
    };
    let bytes = [
        frame(&hello(VERSION)),
        {
            let mut submit_frame = Vec::new();
            encode(
                &submit(1, &huge, true),
                huge.bytes.len() as u64,
                &mut submit_frame,
            )
            .unwrap();
            submit_frame
        },
        vec![0; 64],
    ]
    .concat();
    let (read, mut write) = TcpStream::connect(stack.address())
        .await
        .unwrap()
        .into_split();
    write.write_all(&bytes).await.unwrap();
    let mut frames = FrameReader::new(read);
    let mut said = Vec::new();
    while let Some((message, _)) = frames.next::<ServerMessage>().await.unwrap() {
        said.push(message);
    }
    match &said[..] {
        [
            ServerMessage::Welcome(_),
            ServerMessage::Rejected(rejected),
            ServerMessage::Goodbye(goodbye),
        ] => {
            assert_eq!(rejected.code, ErrorCode::ImageTooLarge);
            assert_eq!(goodbye.code, ErrorCode::ImageTooLarge);
        }
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_connections_and_submits_are_kept() {
    let builder = Stack::builder().workers(0);
    let builder = builder
        .set("limits.max_connections", 2)
        .set("limits.max_watched", 3);
    let stack = builder.start().unwrap();
    let address = &stack.address();
    let mut first = Connection::open(address).await.unwrap();
    let second = Connection::open(address).await.unwrap();
    assert_eq!(
        goodbye_for(address, b"").await,
        ErrorCode::TooManyConnections
    );
    drop(second);

    let mut refused = 0;
    for number in 0..4 {
        let image = sample(number, 16);
        first
            .send(&submit(number, &image, true), &image.bytes)
            .await
            .unwrap();
        match first.next().await.unwrap() {
            ServerMessage::Accepted(_) => {}
            ServerMessage::Rejected(rejected) => {
                assert_eq!(rejected.code, ErrorCode::TooManyWatched);
                refused += 1;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(refused, 1);
}

/// A client that asks and never reads can't make the server grow, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_held_back() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let mut deaf = Connection::open(&address).await.unwrap();
    let image = sample(1, 58);
    deaf.send(&submit(1, &image, false), &image.bytes)
        .await
        .unwrap();
    let status = ClientMessage::Status(Request { req: 2 });
    let began = Instant::now();
    // Far more answers than any buffer holds: at some point the server stops reading.
    let pushed = timeout(std::time::Duration::from_secs(5), async {
        for _ in 0..2_000_000_u32 {
            if deaf
                .send(&ClientMessage::Ping(Request { req: 1 }), &[])
                .await
                .is_err()
            {
                break;
            }
        }
    });
    let held_back = pushed.await.is_err();
    let memory = resident(stack.server().pid().unwrap());
    assert!(
        held_back || began.elapsed().as_secs() >= 5,
        "two million answers were taken in"
    );
    assert!(memory < 150 << 20, "the server has grown to {memory} bytes");

    let mut other = Connection::open(&address).await.unwrap();
    assert!(matches!(other.ask(&status).await, ServerMessage::Status(_)));
}

/// A process's resident memory in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
