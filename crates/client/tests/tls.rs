//! The client and a real server over TLS.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use assert_cmd::Command;
use imgsys_local::Stack;
use imgsys_tls::testing::{TestCa, TestCertificate};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use support::{bitmap, eventually, imgsys, nowhere, text, write};
use tempfile::TempDir;

/// Has the server's program make a token; its secret, if it has one.
fn token(dir: &Path, args: &[&str]) -> String {
    let program = assert_cmd::cargo::cargo_bin!("imgsys").with_file_name("imgsys-server");
    let mut command = Command::new(program);
    command
        .arg("--auth-tokens-file")
        .arg(dir.join("tokens.toml"))
        .args(["token", "new"])
        .args(args);
    let assert = command.assert().success();
    text(&*assert.get_output().stdout).trim().to_owned()
}

fn table(files: &[(&str, &Path)]) -> toml::Table {
    let keys = files.iter();
    keys.map(|(key, file)| ((*key).to_owned(), file.to_str().unwrap().into()))
        .collect()
}

/// A system without workers, whose server has this certificate.
fn stack(
    shown: &TestCertificate,
    more: &[(&str, &Path)],
    settings: &[(&str, toml::Value)],
) -> Stack {
    let own = [("certificate", &*shown.certificate), ("key", &*shown.key)];
    let tls = table(&[&own[..], more].concat());
    let builder = Stack::builder().workers(0).set("server.tls", tls);
    let settings = settings.iter().cloned();
    let builder = settings.fold(builder, |builder, (key, value)| builder.set(key, value));
    builder.start().unwrap()
}

/// The client over TLS, with these options.
fn client(stack: &Stack, args: &[&str]) -> Command {
    let mut command = imgsys(&format!("tls://{}", stack.address()));
    command.args(args);
    command
}

fn fingerprint(file: &Path) -> String {
    let digest = imgsys_tls::fingerprint_of(file).unwrap();
    imgsys_types::Digest::from_bytes(digest).to_string()
}

struct Pki {
    dir: TempDir,
    ca: TestCa,
    other: TestCa,
    server: TestCertificate,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new(dir.path(), "ca");
        let other = TestCa::new(dir.path(), "other");
        let server = ca.sign(&["127.0.0.1"]);
        Self {
            dir,
            ca,
            other,
            server,
        }
    }

    fn ca(&self) -> &str {
        self.ca.file.to_str().unwrap()
    }

    fn other(&self) -> &str {
        self.other.file.to_str().unwrap()
    }
}

#[test]
fn whole_way_goes_over_tls() {
    let pki = Pki::new();
    let dir = pki.dir.path();
    // A worker that shares no disk with the server fetches over https, with a token of its own.
    let secret = |name: &str, args: &[&str]| -> PathBuf {
        let secret = token(dir, &[&[name][..], args].concat());
        let file = write(dir, name, secret.as_bytes());
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        file.into()
    };
    let worker = secret("worker", &["--owner", "w", "--scopes", "worker"]);
    let anna = secret("anna", &["--owner", "anna"]);
    // Bert's laptop has a certificate in place of a secret.
    let laptop = pki.other.sign(&["laptop"]);
    let certificate = laptop.certificate.to_str().unwrap();
    let args = ["laptop", "--owner", "bert", "--certificate", certificate];
    assert_eq!(token(dir, &args), "", "there is no secret");

    let http = nowhere();
    let images = format!("https://{http}/images/");
    let mut tls = table(&[
        ("certificate", &pki.server.certificate),
        ("key", &pki.server.key),
    ]);
    tls.insert("http".into(), true.into());
    let stack = Stack::builder()
        .set("server.tls", tls)
        .set("server.http_listen", http)
        .set("server.image_url", images.as_str())
        .set(
            "auth.tokens_file",
            dir.join("tokens.toml").to_str().unwrap(),
        )
        .set("worker.image_sources", vec![images])
        .set(
            "worker.images",
            table(&[("ca", &pki.ca.file), ("token_file", &worker)]),
        )
        .start()
        .unwrap();
    let anna = ["--ca", pki.ca(), "--token-file", anna.to_str().unwrap()];
    let small = write(dir, "a.bmp", &bitmap(1));
    // Longer than all buffers together, and no image.
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n / 7 * 31).to_le_bytes()[0])
        .collect();
    let large = write(dir, "noise.jpg", &noise);
    let assert = client(&stack, &anna)
        .args(["send", "--json", &small, &large])
        .assert()
        .code(1);
    let lines: Vec<Value> = text(&*assert.get_output().stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(of(&small)["state"], "done");
    assert_eq!(of(&large)["reason"], "unsupported_format");
    let job = of(&large)["job"].as_str().unwrap();
    client(&stack, &anna)
        .args(["get", job, "-o", "-"])
        .assert()
        .code(0)
        .stdout(noise);

    let key = laptop.key.to_str().unwrap();
    let bert = ["--ca", pki.ca(), "--certificate", certificate, "--key", key];
    client(&stack, &bert)
        .args(["--verbose", "send", &small])
        .assert()
        .code(0)
        .stderr(contains("as bert"));
    client(&stack, &bert)
        .args(["show", job])
        .assert()
        .code(1)
        .stderr(contains("unknown_job"));
    // A certificate that is not known is told by its fingerprint, as it would have to be named.
    let stranger = pki.ca.sign(&["stranger"]);
    client(&stack, &["--ca", pki.ca()])
        .arg("--certificate")
        .arg(&stranger.certificate)
        .arg("--key")
        .arg(&stranger.key)
        .arg("status")
        .assert()
        .code(4)
        .stderr(contains(fingerprint(&stranger.certificate)));
}

#[test]
fn server_that_is_not_the_right_one_is_refused() {
    let pki = Pki::new();
    let stack = stack(&pki.server, &[], &[]);
    let shown = fingerprint(&pki.server.certificate);
    let colons: Vec<String> = (0..32)
        .map(|n| shown[2 * n..2 * n + 2].to_uppercase())
        .collect();
    for args in [
        ["--ca", pki.ca()],
        ["--fingerprint", &shown],
        ["--fingerprint", &colons.join(":")],
    ] {
        client(&stack, &args).arg("status").assert().code(0);
    }
    let wrong = "00".repeat(32);
    for (args, why) in [
        (["--ca", pki.other()], "signed by nobody whom we trust"),
        (
            ["--fingerprint", &wrong],
            "not the one with the fingerprint",
        ),
    ] {
        client(&stack, &args)
            .arg("status")
            .assert()
            .code(3)
            .stderr(contains(why).and(contains("tls://127.0.0.1:")));
    }
    let port = stack.address().replace("127.0.0.1:", "");
    imgsys(&format!("tls://localhost:{port}"))
        .args(["--ca", pki.ca(), "status"])
        .assert()
        .code(3)
        .stderr(contains("for another name"));

    // One side with TLS, the other without.
    imgsys(&stack.address())
        .arg("status")
        .assert()
        .code(4)
        .stderr(contains("over TLS only: write tls://"));
    assert_eq!(failures(&stack, "plain"), 1);
    let plain = Stack::builder().workers(0).start().unwrap();
    client(&plain, &["--ca", pki.ca()])
        .arg("status")
        .assert()
        .code(3)
        .stderr(contains("does not speak TLS"));
    for args in [["--ca", pki.ca()], ["--fingerprint", &wrong]] {
        imgsys(&plain.address())
            .args(args)
            .arg("status")
            .assert()
            .code(2)
            .stderr(contains("--server tls://HOST"));
    }

    // A new certificate is taken up while the server runs; one that is none is not.
    let by = pki.other.sign(&["127.0.0.1"]);
    assert_eq!(
        by.certificate, pki.server.certificate,
        "it is there already"
    );
    eventually("the new certificate is shown", || {
        let status = client(&stack, &["--ca", pki.other(), "status"]).output();
        status.unwrap().status.success().then_some(())
    });
    client(&stack, &["--ca", pki.ca(), "status"])
        .assert()
        .code(3);
    fs::write(&pki.server.certificate, "no certificate").unwrap();
    eventually("the server says that it can't be used", || {
        let lines = stack.server().last_lines().join("\n");
        lines
            .contains("the certificate stays as it was")
            .then_some(())
    });
    client(&stack, &["--ca", pki.other(), "status"])
        .assert()
        .code(0);
}

/// How many connections got no further than TLS, for this reason.
fn failures(stack: &Stack, reason: &str) -> u64 {
    let mut side = TcpStream::connect(stack.http_address().unwrap()).unwrap();
    side.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut metrics = String::new();
    side.read_to_string(&mut metrics).unwrap();
    let series = format!("imgsys_tls_failures_total{{reason=\"{reason}\"}} ");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(&series)).unwrap();
    count.parse().unwrap()
}

/// Connections on which nobody says a word of TLS.
fn silent(stack: &Stack, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect(stack.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn nobody_has_long_for_tls_and_all_who_try_are_counted() {
    let pki = Pki::new();
    let settings = [
        ("limits.handshake", "2s".into()),
        ("limits.max_connections", 2.into()),
    ];
    let stack = stack(&pki.server, &[], &settings);
    let quick = ["--ca", pki.ca(), "--connect-timeout", "1ms", "status"];
    let held = eventually("those who are silent take the places", || {
        let held = silent(&stack, 2);
        let output = client(&stack, &quick).output().unwrap();
        let full = text(&*output.stderr).contains("2 clients are connected already");
        full.then_some(held)
    });
    // They are cut off, and make room.
    for mut stream in held {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert!(failures(&stack, "late") >= 2);
    assert_eq!(failures(&stack, "plain"), 0);
    client(&stack, &["--ca", pki.ca(), "status"])
        .assert()
        .code(0);

    // So is one who says something all the time, and gets nowhere: a record of 512 bytes.
    let mut slow = silent(&stack, 1).pop().unwrap();
    let begun = Instant::now();
    slow.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
        let gone = slow.write_all(&[0]).is_err();
        match slow.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !gone => {}
            _ => break,
        }
    }
}

#[test]
fn server_may_want_certificates_of_all() {
    let pki = Pki::new();
    let stack = stack(&pki.server, &[("client_ca", &pki.other.file)], &[]);
    let mine = pki.other.sign(&["mine"]);
    let stranger = pki.ca.sign(&["stranger"]);
    let with = |shown: Option<&TestCertificate>| {
        let mut command = client(&stack, &["--ca", pki.ca()]);
        if let Some(TestCertificate { certificate, key }) = shown {
            command.arg("--certificate").arg(certificate);
            command.arg("--key").arg(key);
        }
        command.arg("status").assert()
    };
    with(Some(&mine)).code(0);
    with(None)
        .code(3)
        .stderr(contains("it wants a certificate of ours"));
    with(Some(&stranger))
        .code(3)
        .stderr(contains("it does not accept our certificate"));
    eventually("both are counted", || {
        (failures(&stack, "refused") == 2).then_some(())
    });
    let half = client(&stack, &["--ca", pki.ca(), "--key"])
        .arg(&mine.key)
        .arg("status")
        .assert();
    half.code(2).stderr(contains("needs both"));
}
