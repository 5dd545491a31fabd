//! The client against a real server that asks for tokens.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod support;

use assert_cmd::Command;
use imgsys_local::Stack;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use support::{bitmap, eventually, imgsys, spawn_at, text, write};
use tempfile::TempDir;

/// A system with tokens; each one's secret is in a file of its name.
struct House {
    dir: TempDir,
    stack: Stack,
}

/// Has the server's program edit the tokens; what it prints.
fn edit(dir: &Path, args: &[&str]) -> String {
    let program = assert_cmd::cargo::cargo_bin!("imgsys").with_file_name("imgsys-server");
    let mut command = Command::new(program);
    command
        .arg("--auth-tokens-file")
        .arg(dir.join("tokens.toml"))
        .arg("token")
        .args(args);
    let output = command.assert().success().get_output().stdout.clone();
    text(&*output).trim().to_owned()
}

/// Makes a token of this name, and the file with its secret.
fn token(dir: &Path, name: &str, owner: &str, more: &[&str]) {
    let secret = edit(dir, &[&["new", name, "--owner", owner][..], more].concat());
    private(dir, name, &secret);
}

fn private(dir: &Path, name: &str, secret: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, format!("{secret}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

impl House {
    fn new(workers: usize, tokens: &[(&str, &str, &[&str])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, owner, more) in tokens {
            token(dir.path(), name, owner, more);
        }
        let file = dir.path().join("tokens.toml");
        let builder = Stack::builder().workers(workers);
        let builder = builder.set("auth.tokens_file", file.to_str().unwrap());
        let stack = builder.start().unwrap();
        Self { dir, stack }
    }

    /// The client with the token of this name.
    fn client(&self, token: &str, args: &[&str]) -> Command {
        let mut command = imgsys(&self.stack.address());
        command
            .arg("--token-file")
            .arg(self.dir.path().join(token))
            .args(args);
        command
    }

    fn lines(&self, token: &str, args: &[&str]) -> Vec<Value> {
        let assert = self.client(token, args).assert().code(0);
        text(&*assert.get_output().stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[track_caller]
    fn refused(&self, token: &str, args: &[&str], why: &str) {
        self.client(token, args)
            .assert()
            .code(4)
            .stderr(contains("not allowed").and(contains(why)));
    }
}

#[test]
fn token_opens_what_it_is_for_and_no_more() {
    let house = House::new(
        1,
        &[
            ("anna", "anna", &[]),
            ("bert", "bert", &[]),
            ("sender", "anna", &["--scopes", "send"]),
            ("reader", "anna", &["--scopes", "history"]),
            ("boss", "carl", &["--scopes", "admin"]),
            ("brief", "anna", &["--expires", "1s"]),
        ],
    );
    let image = write(house.dir.path(), "a.bmp", &bitmap(1));
    private(house.dir.path(), "wrong", "imgsys_wrong");

    // None, a wrong one, one that was good for a second.
    imgsys(&house.stack.address())
        .arg("status")
        .assert()
        .code(4)
        .stderr(contains("wants a token").and(contains("--token-file")));
    house.refused("wrong", &["send", &image], "not known here");
    eventually("the token expires", || {
        let output = house.client("brief", &["status"]).output().unwrap();
        let expired = text(&*output.stderr).contains("expired");
        expired.then(|| assert_eq!(output.status.code(), Some(4)))
    });

    // Scopes.
    house.refused("reader", &["send", &image], "lacks the scope send");
    house.refused("sender", &["history"], "lacks the scope history");
    let sent = house.lines("sender", &["send", "--json", &image]);
    let job = sent[0]["job"].as_str().unwrap();
    house.refused("sender", &["show", job], "lacks the scope history");
    house.refused(
        "sender",
        &["get", job, "-o", "-"],
        "lacks the scope history",
    );
    house.refused("reader", &["cancel", job], "lacks the scope send");

    // What is Anna's is not Bert's, by whatever name.
    assert_eq!(house.lines("reader", &["history", "--json"]).len(), 1);
    assert_eq!(house.lines("bert", &["history", "--json"]).len(), 0);
    for command in ["show", "wait", "cancel", "reanalyze"] {
        let output = house.client("bert", &[command, job]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        let all = text(&*output.stdout) + &text(&*output.stderr);
        assert!(all.contains("unknown_job"), "{command}: {all}");
    }
    house
        .client("bert", &["get", job, "-o", "-"])
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains("unknown_job"));
    house.refused("bert", &["history", "--owner", "anna"], "scope admin");
    house.refused("bert", &["history", "--all-owners"], "scope admin");
    // The same bytes are new to the server, as far as Bert is told.
    let sent = house.lines("bert", &["send", "--json", &image]);
    assert_eq!(sent[0]["duplicate"], false);

    // The scope admin reaches all.
    assert_eq!(house.lines("boss", &["history", "--json"]).len(), 0);
    let owners = |args: &[&str]| -> Vec<String> {
        let lines = house.lines("boss", &[&["history", "--json"][..], args].concat());
        let owner = |line: &Value| line["owner"].as_str().unwrap().to_owned();
        lines.iter().map(owner).collect()
    };
    assert_eq!(owners(&["--all-owners"]), ["bert", "anna"]);
    assert_eq!(owners(&["--owner", "anna"]), ["anna"]);
    house
        .client("boss", &["history", "--all-owners"])
        .assert()
        .code(0)
        .stdout(contains("OWNER").and(contains("bert")));
    house
        .client("boss", &["get", job, "-o", "-"])
        .assert()
        .code(0)
        .stdout(bitmap(1));
    house.client("boss", &["wait", job]).assert().code(0);
    let again = ["reanalyze", "--json", "--all", "--all-owners"];
    assert_eq!(house.lines("boss", &again).len(), 2);
}

#[test]
fn whoever_waits_by_a_token_that_is_revoked_is_sent_away() {
    let house = House::new(0, &[("laptop", "anna", &[]), ("phone", "anna", &[])]);
    let image = write(house.dir.path(), "a.bmp", &bitmap(1));
    let secret = house.dir.path().join("laptop");
    let secret = secret.to_str().unwrap();
    let waiting = spawn_at(
        &house.stack.address(),
        &["--token-file", secret, "send", "--json", &image],
    );
    let jobs = || house.lines("phone", &["history", "--json"]);
    eventually("the image is accepted", || {
        (jobs().len() == 1).then_some(())
    });
    edit(house.dir.path(), &["revoke", "laptop"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    // It was accepted, so it goes on.
    assert_eq!(line["state"], "queued");
    assert!(text(&*output.stderr).contains("revoked"), "{output:?}");
    // The job is still there.
    assert_eq!(jobs().len(), 1);
}

#[test]
fn token_is_found_where_it_belongs() {
    let house = House::new(0, &[("anna", "anna", &[]), ("bert", "bert", &[])]);
    let dir = house.dir.path();
    let secret = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let usual = dir.join("config/imgsys/token");
    fs::create_dir_all(usual.parent().unwrap()).unwrap();
    let base = || {
        let mut command = imgsys(&house.stack.address());
        command.env("XDG_CONFIG_HOME", dir.join("config"));
        command.arg("status");
        command
    };
    base().assert().code(4);
    private(usual.parent().unwrap(), "token", &secret("anna"));
    base().assert().code(0);
    // The variable goes before the file, and the flag before both.
    let wrong = "imgsys_wrong";
    base().env("IMGSYS_TOKEN", wrong).assert().code(4);
    base()
        .env("IMGSYS_TOKEN", wrong)
        .arg("--token-file")
        .arg(dir.join("bert"))
        .assert()
        .code(0);
    fs::remove_file(&usual).unwrap();
    base().env("IMGSYS_TOKEN", secret("bert")).assert().code(0);
    // Without XDG_CONFIG_HOME it is below the home.
    let home = dir.join("home");
    fs::create_dir_all(home.join(".config/imgsys")).unwrap();
    private(&home.join(".config/imgsys"), "token", &secret("anna"));
    base()
        .env_remove("XDG_CONFIG_HOME")
        .env("HOME", &home)
        .assert()
        .code(0);

    // A file that others can read is refused, whatever is in it, and what is no token too.
    fs::set_permissions(dir.join("anna"), Permissions::from_mode(0o640)).unwrap();
    private(dir, "empty", "");
    private(dir, "two", "imgsys_a imgsys_b");
    for (name, why) in [
        ("anna", "(mode 640): chmod 600 "),
        ("empty", "holds no token"),
        ("two", "holds no token"),
        ("nothing", "No such file"),
    ] {
        let assert = house.client(name, &["status"]).assert().code(2);
        let line = text(&*assert.get_output().stderr);
        assert!(line.contains(why), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains("imgsys_"), "{line}");
    }
}
