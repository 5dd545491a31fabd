//! Each limit on an owner is gone over, and on how slowly images may come.

use crate::{
    client::{Connection, PATIENCE, submit},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage, encode,
    message::{JobRequest, Rejected, Request, Watch},
};
use imgsys_types::{ErrorCode, Outcome};
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// Sends an image; how it is refused, unless it is accepted.
async fn send(connection: &mut Connection, image: &Sample) -> Option<Rejected> {
    let message = submit(1, image, false);
    connection.send(&message, &image.bytes).await.unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(_) => None,
        ServerMessage::Rejected(rejected) => Some(rejected),
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_has_so_many_unfinished_jobs_on_all_connections() {
    let builder = Stack::builder().workers(0);
    let stack = builder.set("limits.owner_unfinished", 3).start().unwrap();
    let mut one = Connection::open(&stack.address()).await.unwrap();
    let mut two = Connection::open(&stack.address()).await.unwrap();
    let images: Vec<_> = (0..4).map(|number| sample(number, 16)).collect();
    assert!(send(&mut one, &images[0]).await.is_none());
    assert!(send(&mut two, &images[1]).await.is_none());
    assert!(send(&mut one, &images[2]).await.is_none());
    let refused = send(&mut two, &images[3]).await.unwrap();
    assert_eq!(refused.code, ErrorCode::TooManyUnfinished);
    assert!(refused.retry_after_ms.is_some());
    // The rest goes on, and one that ends makes room for another.
    let cancel = ClientMessage::Cancel(JobRequest {
        req: 2,
        job: images[0].job,
    });
    let deadline = Instant::now() + PATIENCE;
    while !matches!(one.ask(&cancel).await, ServerMessage::Cancelled(_)) {
        assert!(Instant::now() < deadline, "never cancelled");
    }
    assert!(send(&mut two, &images[3]).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_may_send_so_many_bytes_a_day_whoever_restarts() {
    let images: Vec<_> = (0..4).map(|number| sample(number, 32)).collect();
    let size = images[0].bytes.len() as u64;
    let builder = Stack::builder().workers(1);
    let builder = builder.set(
        "limits.owner_bytes_per_day",
        i64::try_from(2 * size + 10).unwrap(),
    );
    let stack = builder.start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    assert!(send(&mut connection, &images[0]).await.is_none());
    // Refused for another reason, so it costs nothing.
    let mut wrong = images[1].clone();
    wrong.bytes[60] ^= 1;
    let refused = send(&mut connection, &wrong).await.unwrap();
    assert_eq!(refused.code, ErrorCode::DigestMismatch);
    assert!(send(&mut connection, &images[1]).await.is_none());
    let refused = send(&mut connection, &images[2]).await.unwrap();
    assert_eq!(refused.code, ErrorCode::QuotaExceeded);
    let wait = Duration::from_millis(refused.retry_after_ms.unwrap());
    assert!(wait <= Duration::from_secs(86_400), "{wait:?}");

    stack.server().kill();
    stack.server().start().unwrap();
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let refused = send(&mut connection, &images[3]).await.unwrap();
    assert_eq!(refused.code, ErrorCode::QuotaExceeded);
    // What the server has already is no bytes.
    let again = Sample {
        job: imgsys_types::JobId::generate(),
        bytes: Vec::new(),
        ..images[0].clone()
    };
    let known = match submit(3, &images[0], false) {
        ClientMessage::Submit(submit) => ClientMessage::Submit(imgsys_proto::message::Submit {
            job: again.job,
            ..submit
        }),
        other => other,
    };
    let answer = connection.ask(&known).await;
    assert!(matches!(answer, ServerMessage::Accepted(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_may_ask_so_often_a_second() {
    let builder = Stack::builder().workers(0);
    let builder = builder.set("limits.owner_requests_per_second", 5);
    let stack = builder.start().unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(Connection::open(&stack.address()).await.unwrap());
    }
    let began = Instant::now();
    let (mut passed, mut refused) = (0, Vec::new());
    for number in 0..30 {
        let status = ClientMessage::Status(Request { req: 1 });
        match connections[number % 3].ask(&status).await {
            ServerMessage::Status(_) => passed += 1,
            ServerMessage::Rejected(rejected) => refused.push(rejected),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let most = 5.0 + 5.0 * began.elapsed().as_secs_f64();
    assert!(f64::from(passed) <= most + 1.0, "{passed} passed");
    let last = refused.last().expect("nothing was refused");
    assert_eq!(last.code, ErrorCode::RateLimited);
    // Who comes back when it is told to is let in.
    let wait = last.retry_after_ms.unwrap();
    assert!(wait <= 200, "{wait} ms for one of five requests a second");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let status = ClientMessage::Status(Request { req: 99 });
    let answer = connections[0].ask(&status).await;
    assert!(matches!(answer, ServerMessage::Status(_)), "{answer:?}");
    // What was refused has a body, perhaps: the connection goes on behind it.
    let image = sample(1, 16);
    for _ in 0..10 {
        send(&mut connections[1], &image).await;
    }
}

/// A byte now and then is not silence, but it is too slow, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_byte_at_a_time_is_cut_off() {
    let builder = Stack::builder().workers(1);
    let stack = builder.set("limits.min_rate", "1MiB").start().unwrap();
    let address = stack.address();
    let image = sample(1, 64);
    let mut slow = Connection::open(&address).await.unwrap();
    let mut frame = Vec::new();
    encode(
        &submit(1, &image, true),
        image.bytes.len() as u64,
        &mut frame,
    )
    .unwrap();
    slow.write_raw(&frame).await.unwrap();
    let began = Instant::now();
    let mut bytes = image.bytes.chunks(1);
    let end = loop {
        // Slow, but far from silent.
        let said = slow.frames.next();
        if let Ok(said) = timeout(Duration::from_millis(100), said).await {
            break said.unwrap().unwrap().0;
        }
        let byte = bytes.next().expect("the whole image was taken");
        // The server may just have closed: what it said comes next.
        let _ = slow.write_raw(byte).await;
        assert!(began.elapsed() < PATIENCE, "never cut off");
    };
    match end {
        ServerMessage::Goodbye(goodbye) => assert_eq!(goodbye.code, ErrorCode::TimedOut),
        other => panic!("unexpected: {other:?}"),
    }
    let mut other = Connection::open(&address).await.unwrap();
    assert!(send(&mut other, &sample(2, 64)).await.is_none());
}

/// Connections that say nothing, or half a hello, keep nobody out, and go after the handshake's time.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_connections_disturb_nobody() {
    let builder = Stack::builder().workers(1);
    let stack = builder.set("limits.handshake", "3s").start().unwrap();
    let address = stack.address();
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&[0, 0]).await.unwrap();
        }
        silent.push(stream);
    }
    let mut client = Connection::open(&address).await.unwrap();
    assert!(send(&mut client, &sample(1, 16)).await.is_none());
    let status = ClientMessage::Status(Request { req: 2 });
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.ask(&status).await {
            ServerMessage::Status(status) if status.connections == 1 => break,
            ServerMessage::Status(status) => {
                assert!(Instant::now() < deadline, "{} stay", status.connections);
            }
            other => panic!("unexpected: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(silent);
}

/// Files go when they are old; jobs and results stay, and what is not analysed yet keeps its image.
#[tokio::test(flavor = "multi_thread")]
async fn old_images_go_and_their_jobs_stay() {
    let builder = Stack::builder().workers(1);
    let stack = builder.set("server.keep_images", "3s").start().unwrap();
    let mut client = Connection::open(&stack.address()).await.unwrap();
    let image = sample(1, 16);
    assert!(send(&mut client, &image).await.is_none());
    let ask = |make: fn(JobRequest) -> ClientMessage| {
        make(JobRequest {
            req: 2,
            job: image.job,
        })
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.ask(&ask(ClientMessage::Fetch)).await {
            ServerMessage::Image(_) => {}
            ServerMessage::Rejected(refused) => {
                assert_eq!(refused.code, ErrorCode::UnknownJob);
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
        assert!(Instant::now() < deadline, "the image is kept for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    match client.ask(&ask(ClientMessage::Show)).await {
        ServerMessage::Job(answer) => assert!(answer.record.result.is_some(), "{answer:?}"),
        other => panic!("unexpected: {other:?}"),
    }

    // Without workers it is as old as the other before it is analysed.
    stack.workers()[0].kill();
    let waiting = sample(2, 16);
    assert!(send(&mut client, &waiting).await.is_none());
    let path = {
        let digest = waiting.sha256.to_string();
        stack
            .dir()
            .join("server/images")
            .join(&digest[..2])
            .join(digest)
    };
    let sent = Instant::now();
    while sent.elapsed() < Duration::from_secs(5) {
        assert!(path.exists(), "{} is gone", path.display());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stack.workers()[0].start().unwrap();
    let watch = ClientMessage::Watch(Watch {
        req: 3,
        jobs: vec![waiting.job],
    });
    let mut said = client.ask(&watch).await;
    if matches!(said, ServerMessage::Watching(_)) {
        said = client.next().await.unwrap();
    }
    match said {
        ServerMessage::Result(end) => {
            assert!(matches!(end.result.outcome, Outcome::Done(_)), "{end:?}");
        }
        other => panic!("unexpected: {other:?}"),
    }
}

/// Whoever has an answer may use its place at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_go_to_the_limit() {
    let builder = Stack::builder().workers(0);
    let builder = builder
        .set("limits.max_in_flight", 1)
        .set("limits.owner_unfinished", 2000)
        .set("server.durability", "none");
    let stack = builder.start().unwrap();
    let mut client = Connection::open(&stack.address()).await.unwrap();
    for number in 0..2000 {
        let refused = send(&mut client, &sample(number, 2)).await;
        assert_eq!(refused, None, "submit {number}");
    }
    let refused = send(&mut client, &sample(2000, 2)).await.unwrap();
    assert_eq!(refused.code, ErrorCode::TooManyUnfinished);
}
