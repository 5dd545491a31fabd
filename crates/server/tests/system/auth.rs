//! Nobody gets in where they don't belong.

use crate::{
    client::{Connection, PATIENCE, submit},
    images::sample,
};
use assert_cmd::Command;
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Reanalyze, RunOf, RunsRequest, SimilarRequest, Watch},
};
use imgsys_types::{ErrorCode, Priority};
use std::{io::Read, io::Write, net::TcpStream, path::Path};
use tempfile::TempDir;
use tokio::time::timeout;

/// Has the server's program edit the tokens; what it prints.
pub(crate) fn token(file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("imgsys-server").unwrap();
    command
        .arg("--auth-tokens-file")
        .arg(file)
        .arg("token")
        .args(arguments);
    let output = command.assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap().trim().to_owned()
}

struct House {
    stack: Stack,
    _dir: TempDir,
    file: std::path::PathBuf,
}

/// A system with tokens, and one of Anna's that may do what clients do.
fn house() -> (House, String) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens.toml");
    let anna = token(&file, &["new", "laptop", "--owner", "anna"]);
    let builder = Stack::builder().workers(1);
    let stack = builder.set("auth.tokens_file", file.to_str().unwrap());
    let stack = stack.start().unwrap();
    (
        House {
            stack,
            _dir: dir,
            file,
        },
        anna,
    )
}

async fn refused(address: &str, secret: Option<&str>) -> String {
    let error = Connection::open_as(address, secret).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("NotAllowed"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nobody_gets_in() {
    let (house, anna) = house();
    let address = &house.stack.address();
    assert!(refused(address, None).await.contains("wants a token"));
    assert!(
        refused(address, Some("imgsys_wrong"))
            .await
            .contains("not known")
    );
    assert!(refused(address, Some("")).await.contains("not known"));
    let short = token(
        &house.file,
        &["new", "short", "--owner", "anna", "--expires", "1s"],
    );
    let connection = Connection::open_as(address, Some(&anna)).await.unwrap();
    assert_eq!(connection.welcome.owner.as_str(), "anna");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        // The server hears of the token, then it expires.
        let text = refused_or_in(address, &short).await;
        if text.is_some_and(|text| text.contains("expired")) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never expires");
    }
}

async fn refused_or_in(address: &str, secret: &str) -> Option<String> {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let outcome = Connection::open_as(address, Some(secret)).await;
    outcome.err().map(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_ends_its_connections() {
    let (house, anna) = house();
    let mut connection = Connection::open_as(&house.stack.address(), Some(&anna))
        .await
        .unwrap();
    token(&house.file, &["revoke", "laptop"]);
    match timeout(PATIENCE, connection.next()).await.unwrap().unwrap() {
        ServerMessage::Goodbye(goodbye) => assert_eq!(goodbye.code, ErrorCode::NotAllowed),
        other => panic!("unexpected: {other:?}"),
    }
    refused(&house.stack.address(), Some(&anna)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_see_only_what_is_theirs() {
    let (house, anna) = house();
    let bert = token(&house.file, &["new", "phone", "--owner", "bert"]);
    let address = &house.stack.address();
    let mut anna = Connection::open_as(address, Some(&anna)).await.unwrap();
    let image = sample(1, 58);
    anna.send(&submit(1, &image, true), &image.bytes)
        .await
        .unwrap();
    loop {
        if let ServerMessage::Result(_) = anna.next().await.unwrap() {
            break;
        }
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut bert = loop {
        match Connection::open_as(address, Some(&bert)).await {
            Ok(connection) => break connection,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    let request = JobRequest {
        req: 1,
        job: image.job,
    };
    let similar = |job, sha256| {
        ClientMessage::Similar(SimilarRequest {
            req: 1,
            of_job: job,
            of_image: sha256,
            distance: 10,
            limit: 10,
        })
    };
    for message in [
        similar(Some(image.job), None),
        similar(None, Some(image.sha256)),
        ClientMessage::Show(request),
        ClientMessage::Fetch(request),
        ClientMessage::Cancel(request),
        ClientMessage::Delete(request),
        ClientMessage::Runs(RunsRequest {
            req: 1,
            job: image.job,
            before: None,
        }),
    ] {
        match bert.ask(&message).await {
            ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::UnknownJob),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let watch = Watch {
        req: 2,
        jobs: vec![image.job],
    };
    match bert.ask(&ClientMessage::Watch(watch)).await {
        ServerMessage::Watching(watching) => assert_eq!(watching.unknown, [image.job]),
        other => panic!("unexpected: {other:?}"),
    }
    let again = Reanalyze {
        req: 2,
        runs: vec![RunOf {
            job: image.job,
            run: 1,
        }],
        priority: Priority::default(),
    };
    match bert.ask(&ClientMessage::Reanalyze(again)).await {
        ServerMessage::Reanalyzing(answer) => {
            assert_eq!(answer.accepted, []);
            assert_eq!(answer.refused[0].code, ErrorCode::UnknownJob);
        }
        other => panic!("unexpected: {other:?}"),
    }
    assert_eq!(bert.history().await.unwrap(), []);
    // Bert is not told that the image is known.
    let again = crate::images::Sample {
        job: imgsys_types::JobId::generate(),
        ..image
    };
    match bert.ask(&submit(4, &again, true)).await {
        ServerMessage::SendBody(_) => {}
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_its_scopes_say() {
    let (house, _) = house();
    let reader = token(
        &house.file,
        &["new", "reader", "--owner", "anna", "--scopes", "history"],
    );
    let worker = token(
        &house.file,
        &["new", "worker", "--owner", "w", "--scopes", "worker"],
    );
    let address = &house.stack.address();
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut connection = loop {
        match Connection::open_as(address, Some(&reader)).await {
            Ok(connection) => break connection,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    let image = sample(1, 58);
    connection
        .send(&submit(1, &image, true), &image.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::NotAllowed),
        other => panic!("unexpected: {other:?}"),
    }
    // The connection goes on, and Anna's history is empty.
    assert_eq!(connection.history().await.unwrap(), []);

    let sender = token(
        &house.file,
        &["new", "camera", "--owner", "anna", "--scopes", "send"],
    );
    let mut sender = loop {
        match Connection::open_as(address, Some(&sender)).await {
            Ok(connection) => break connection,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    // To delete takes both scopes.
    let delete = ClientMessage::Delete(JobRequest {
        req: 3,
        job: image.job,
    });
    for connection in [&mut connection, &mut sender] {
        match connection.ask(&delete).await {
            ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::NotAllowed),
            other => panic!("unexpected: {other:?}"),
        }
    }

    let http = house.stack.http_address().unwrap();
    let path = format!("/images/{}", image.sha256);
    let fetch = |secret: &str| tokio::task::block_in_place(|| http_status(&http, &path, secret));
    assert_eq!(fetch(""), 401);
    assert_eq!(fetch(&reader), 403);
    assert_eq!(fetch(&worker), 404, "allowed, but there is no such image");
    let tricks = |path: &str| tokio::task::block_in_place(|| http_status(&http, path, &worker));
    assert_eq!(tricks("/images/..%2f..%2fspool.redb"), 400);
    assert_eq!(tricks("/images/../spool.redb"), 404);
    let digest = image.sha256.to_string();
    assert_eq!(tricks(&format!("/images/{digest}%00")), 400);
    assert_eq!(tricks(&format!("/images/{digest}.")), 400);
    assert_eq!(tricks(&format!("/images/{}", &digest[1..])), 400);
    assert_eq!(tricks(&format!("/images/{}/{digest}", &digest[..2])), 404);
    assert_eq!(tricks("/images/"), 404);
}

/// The status that a GET with this secret gets.
fn http_status(address: &str, path: &str, secret: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {secret}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_bad_token_file_is_told_at_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens.toml");
    std::fs::write(&file, "[[token]]\nname = \"x\"\n").unwrap();
    let mut command = Command::cargo_bin("imgsys-server").unwrap();
    let assert = command
        .arg("--auth-tokens-file")
        .arg(&file)
        .assert()
        .code(2);
    let line = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(
        line.contains("tokens.toml") && line.contains("owner"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn an_open_address_without_tokens_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let mut command = Command::cargo_bin("imgsys-server").unwrap();
    command
        .args(["--listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path());
    let assert = command.assert().code(2);
    let line = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    for part in ["auth.tokens_file", "token new", "auth.insecure = true"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_its_connections() {
    let (house, _) = house();
    let args = ["new", "brief", "--owner", "anna", "--expires"];
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut seconds = 3;
    let mut connection = loop {
        // As long as it takes here until the server has heard of it.
        let brief = token(
            &house.file,
            &[&args[..], &[&format!("{seconds}s")]].concat(),
        );
        let opened = loop {
            match Connection::open_as(&house.stack.address(), Some(&brief)).await {
                Err(error) if error.to_string().contains("not known") => {}
                opened => break opened,
            }
            assert!(std::time::Instant::now() < deadline, "it is never known");
        };
        match opened {
            Ok(connection) => break connection,
            Err(_) => seconds *= 2,
        }
        token(&house.file, &["revoke", "brief"]);
    };
    match timeout(PATIENCE, connection.next()).await.unwrap().unwrap() {
        ServerMessage::Goodbye(goodbye) => {
            assert_eq!(goodbye.code, ErrorCode::NotAllowed);
            assert!(goodbye.text.contains("expired"), "{}", goodbye.text);
        }
        other => panic!("unexpected: {other:?}"),
    }
}
