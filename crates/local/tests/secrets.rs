//! No secret is ever printed: not in logs, whatever their level, not in errors, help or configuration.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use assert_cmd::Command;
use imgsys_local::{Service, Stack};
use imgsys_tls::testing::TestCa;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::Duration,
};
use support::{eventually, get, side};

const CAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/cat.jpg");
const PROGRAMS: [&str; 3] = ["imgsys-server", "imgsys-worker", "imgsys-persister"];

/// In every password and token of these tests, and nowhere else.
const MARK: &str = "xyzzyPlugh";

fn program(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_imgsys-local")).with_file_name(name))
}

/// Fails if the text has a secret in it.
#[track_caller]
fn assert_clean(text: &str, whose: &str) {
    let leak = text.lines().find(|line| line.contains(MARK));
    assert!(leak.is_none(), "{whose} prints a secret: {leak:?}");
}

/// What a program prints when it is run so, which must be free of secrets.
#[track_caller]
fn output(command: &mut Command) -> (Option<i32>, String) {
    let output = command.timeout(Duration::from_secs(60)).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_clean(&text, &format!("{command:?}").replace(MARK, "MARK"));
    (output.status.code(), text)
}

/// All that the programs have logged.
fn logs(stack: &Stack) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(stack.dir().join("log")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert_clean(&text, &path.display().to_string());
        all += &text;
    }
    all
}

fn ask_redis(stack: &Stack, line: &str) -> String {
    let url = stack.redis().url();
    let mut stream = UnixStream::connect(url.trim_start_matches("unix://")).unwrap();
    stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

/// Sends a client's `hello` with this token, and waits for the server to close the connection.
fn greet(stack: &Stack, token: &str) {
    // {"hello": {"version": 1, "program": "x", "token": token}} in CBOR.
    let text = |text: &str| [&[0x78, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let head = [
        vec![0xa1],
        text("hello"),
        vec![0xa3],
        text("version"),
        vec![1],
        text("program"),
        text("x"),
        text("token"),
        text(token),
    ]
    .concat();
    let mut stream = TcpStream::connect(stack.address()).unwrap();
    let length = u32::try_from(head.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length[..], &[0; 4], &head].concat())
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("not_allowed"), "{answer}");
}

#[test]
fn logs_at_trace_level_hold_no_secret() {
    let stack = Stack::builder()
        .set("log.filter", "trace")
        .set("log.format", "json")
        .start()
        .unwrap();
    let file = |name: &str, secret: &str| {
        let path = stack.dir().join(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        path.display().to_string()
    };
    // Redis asks for its password, which comes from a file; PostgreSQL's is in its URL.
    let right = format!("{MARK}/7@%");
    assert_eq!(
        ask_redis(&stack, &format!("CONFIG SET requirepass {right}")),
        "+OK\r\n"
    );
    let right = file("redis-password", &right);
    let wrong = file("wrong-password", &format!("{MARK}-wrong"));
    let database = format!("{} password='{MARK} \\'quoted'", stack.postgres().url());
    stack.set("redis.password_file", right.as_str()).unwrap();
    stack.set("database.url", database).unwrap();
    let programs = || [stack.server(), stack.persister(), &stack.workers()[0]];
    let restart = || {
        for program in programs() {
            program.restart().unwrap();
        }
    };
    restart();
    program("imgsys")
        .env("IMGSYS_SERVER", stack.address())
        .args(["send", CAT])
        .assert()
        .success();
    let all = logs(&stack);
    assert!(all.contains(r#""level":"TRACE""#), "the level is trace");
    let of_a_job = all.lines().filter(|line| line.contains(r#""job":""#));
    assert!(of_a_job.count() > 0, "lines about jobs have their id");

    // A password that Redis refuses is told by its error, not by itself.
    stack.set("redis.password_file", wrong.as_str()).unwrap();
    restart();
    for service in programs() {
        eventually("it says what it waits for", || {
            let log = log_of(&stack, service);
            (log.contains("WRONGPASS") || log.contains("uthentication")).then_some(())
        });
    }
    logs(&stack);

    // Tokens: those of clients, and of workers that fetch images.
    let tokens = file("tokens", "");
    fs::remove_file(&tokens).unwrap();
    stack.set("redis.password_file", right.as_str()).unwrap();
    stack.set("auth.tokens_file", tokens.as_str()).unwrap();
    let made = program("imgsys-server")
        .args(["--config", stack.config_file().to_str().unwrap()])
        .args([
            "token", "new", "mine", "--owner", "me", "--scopes", "worker",
        ])
        .output()
        .unwrap();
    let token = String::from_utf8(made.stdout.clone())
        .unwrap()
        .trim()
        .to_owned();
    assert!(token.len() > 20, "{made:?}");
    restart();
    let image = format!("/images/{}", "0".repeat(64));
    let http = side(stack.server());
    let bearer = |token: &str| {
        let value = format!("Bearer {token}");
        get(&http, &image, &[("Authorization", &value)]).0
    };
    assert_eq!(bearer(&token), 404);
    assert_eq!(bearer(&format!("{MARK}-no-token")), 401);
    greet(&stack, &format!("{MARK}-no-token"));
    let mut told = over_tls(&stack, &token);
    stack.stop();
    told.0 += &logs(&stack);
    for secret in &told.1 {
        assert!(!told.0.contains(secret), "a secret is logged");
    }
}

/// Has an image sent over TLS, and fetched over https by a worker with this token. What was printed
/// meanwhile, and the secrets that must not be in it.
fn over_tls(stack: &Stack, of_worker: &str) -> (String, Vec<String>) {
    let dir = stack.dir();
    let ca = TestCa::new(dir, "ca");
    let shown = ca.sign(&["127.0.0.1"]);
    let file = |path: &Path| toml::Value::from(path.to_str().unwrap());
    let mut tls = toml::Table::new();
    tls.insert("certificate".into(), file(&shown.certificate));
    tls.insert("key".into(), file(&shown.key));
    tls.insert("http".into(), true.into());
    let token_file = dir.join("worker-token");
    fs::write(&token_file, of_worker).unwrap();
    let mut images = toml::Table::new();
    images.insert("ca".into(), file(&ca.file));
    images.insert("token_file".into(), file(&token_file));
    let url = format!("https://{}/images/", stack.http_address().unwrap());
    stack.set("server.tls", tls).unwrap();
    stack.set("server.image_url", url.as_str()).unwrap();
    stack.set("worker.images", images).unwrap();
    stack.set("worker.image_sources", vec![url]).unwrap();
    let made = program("imgsys-server")
        .args(["--config", stack.config_file().to_str().unwrap()])
        .args(["token", "new", "phone", "--owner", "me"])
        .output()
        .unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    stack.server().restart().unwrap();
    stack.workers()[0].restart().unwrap();
    let (code, said) = output(
        program("imgsys")
            .env("IMGSYS_SERVER", format!("tls://{}", stack.address()))
            .env("IMGSYS_TOKEN", &token)
            .args(["--verbose", "--ca", ca.file.to_str().unwrap(), "send", CAT]),
    );
    assert_eq!(code, Some(0), "{said}");
    let key = fs::read_to_string(&shown.key).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    (said, vec![token, of_worker.to_owned(), key])
}

fn log_of(stack: &Stack, service: &Service) -> String {
    let file = stack
        .dir()
        .join("log")
        .join(format!("{}.log", service.name()));
    fs::read_to_string(file).unwrap()
}

#[test]
fn errors_help_and_configuration_hold_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, format!("{MARK}-file")).unwrap();
    let password = password.to_str().unwrap();
    let urls = [
        format!("redis://:{MARK}@h:port/"),
        format!("redis://me:{MARK}:{MARK}@[::1/0"),
        format!("reddis://me:{MARK}@h"),
        format!("me:{MARK}@h:1"),
        format!("postgres://me:{MARK}@h:port/db"),
        format!("postgres://h/db?password={MARK}&sslmode=perhaps"),
        format!("host=h password='{MARK}' port=many"),
        format!("host=h password={MARK} oops"),
    ];
    for name in PROGRAMS {
        for url in &urls {
            for flag in ["--redis-url", "--database-url"] {
                if (name, flag) == ("imgsys-worker", "--database-url") {
                    continue;
                }
                let (code, text) = output(program(name).args([flag, url, "check-config"]));
                if code == Some(0) {
                    continue;
                }
                assert_eq!(code, Some(2), "{text}");
                assert_eq!(text.lines().count(), 1, "{text}");
                // With a password to be put into it.
                let file = flag.replace("url", "password-file");
                output(program(name).args([flag, url, &file, password, "check-config"]));
            }
            // As a variable, which help shows.
            output(program(name).env("IMGSYS_REDIS_URL", url).arg("--help"));
            let config = dir.path().join("imgsys.toml");
            let quoted = toml::Value::from(url.as_str());
            fs::write(&config, format!("[redis]\nurl = {quoted}\nurk = 1\n")).unwrap();
            let config = config.to_str().unwrap();
            let (code, text) = output(program(name).args(["--config", config, "check-config"]));
            assert_eq!(code, Some(2), "{text}");
            fs::write(config, format!("[redis]\nurl = {quoted}, {quoted}\n")).unwrap();
            output(program(name).args(["check-config", "--config", config]));
        }
    }
}

#[test]
fn errors_hold_no_token_and_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let token = file("token", &format!("{MARK}-good"));
    let torn = file("torn", &format!("{MARK} {MARK}"));
    let pem = |what: &str| format!("-----BEGIN {what}-----\n{MARK}=\n-----END {what}-----\n");
    let key = file("key", &pem("PRIVATE KEY"));
    let none = file("none", MARK);
    let certificate = file("certificate", &pem("CERTIFICATE"));
    let nowhere = "127.0.0.1:1";
    let client = |args: &[&str]| {
        let mut command = program("imgsys");
        command.args(["--verbose", "--connect-timeout", "1ms"]);
        command.args(args).arg("status");
        command
    };
    let tls = format!("tls://{nowhere}");
    for (args, expected) in [
        (vec!["--server", nowhere, "--token-file", &token], 3),
        (vec!["--server", nowhere, "--token-file", &torn], 2),
        (vec!["--server", &tls, "--ca", &none], 2),
        (vec!["--server", &tls, "--ca", &certificate], 2),
        (
            vec![
                "--server",
                &tls,
                "--certificate",
                &certificate,
                "--key",
                &key,
            ],
            2,
        ),
        (
            vec![
                "--server",
                &tls,
                "--certificate",
                &certificate,
                "--key",
                &none,
            ],
            2,
        ),
    ] {
        let (code, text) = output(&mut client(&args));
        assert_eq!(code, Some(expected), "{args:?}: {text}");
    }
    for text in [format!("{MARK}-good"), format!("{MARK} {MARK}")] {
        output(client(&["--server", nowhere]).env("IMGSYS_TOKEN", &text));
        output(program("imgsys").env("IMGSYS_TOKEN", &text).arg("--help"));
    }
    for (certificate, key) in [(&none, &none), (&certificate, &key), (&certificate, &none)] {
        let mut server = program("imgsys-server");
        let server = server.args(["--tls-certificate", certificate, "--tls-key", key]);
        let (code, text) = output(server.arg("check-config"));
        assert_eq!(code, Some(2), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let mut worker = program("imgsys-worker");
    let (code, text) = output(worker.args(["--images-token-file", &torn, "check-config"]));
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn the_configuration_is_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("imgsys.toml");
    let text = format!(
        "[redis]\nurl = \"redis://:{MARK}@h:1/2\"\n[database]\nurl = \"host=h password={MARK}\"\n\
         [worker]\nthreads = 3\n[persister]\nbatch = 7\n"
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    for name in PROGRAMS {
        let (code, text) = output(program(name).args(["check-config", "--config", config]));
        assert_eq!(
            (code, text.as_str()),
            (Some(0), "the configuration is valid\n")
        );

        let (code, text) = output(program(name).args(["--config", config, "--print-config"]));
        assert_eq!(code, Some(0), "{text}");
        let shown: toml::Table = text.parse().unwrap();
        assert_eq!(shown["redis"]["url"].as_str(), Some("redis://:***@h:1/2"));
        assert_eq!(
            shown["database"]["url"].as_str(),
            Some("host=h password=***")
        );
        assert_eq!(shown["worker"]["threads"].as_integer(), Some(3));
        assert_eq!(shown["limits"]["idle"].as_str(), Some("2m"));
        // What is shown is a configuration again.
        let copy = dir.path().join("copy.toml");
        fs::write(&copy, &text).unwrap();
        let copy = copy.to_str().unwrap();
        let (code, again) = output(program(name).args(["--config", copy, "--print-config"]));
        assert_eq!((code, again), (Some(0), text));
    }
    let (code, text) =
        output(program("imgsys-server").args(["--listen", "0.0.0.0:7450", "check-config"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("auth.tokens_file"), "{text}");
}
