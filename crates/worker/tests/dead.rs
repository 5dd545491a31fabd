//! `imgsys-worker dead`: dead letters are listed, shown, tried again and dropped.

#![allow(clippy::unwrap_used)]

use assert_cmd::Command;
use imgsys_local::TestRedis;
use imgsys_queue::keys::{self, Keys};
use imgsys_types::{JobId, ServerId};
use predicates::{
    prelude::*,
    str::{contains, is_empty},
};
use redis::Commands;
use serde_json::{Value, json};

struct World {
    redis: TestRedis,
    keys: Keys,
}

impl World {
    fn new() -> Self {
        let redis = TestRedis::start().unwrap();
        let keys = Keys::of(&redis.url()).unwrap();
        Self { redis, keys }
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        client.get_connection().unwrap()
    }

    fn dead(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsys-worker"));
        command
            .args(["--redis-url", &self.redis.url(), "dead"])
            .args(words);
        command
    }

    /// What a command with --json prints.
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let out = self.dead(words).arg("--json").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn set_aside(&self, reason: &str, message: &str) {
        let letter = json!({
            "reason": reason,
            "detail": format!("because of {reason} \u{1b}[31m"),
            "queue": "imgsys",
            "at": "2025-11-24T04:00:00.000000+00:00",
            "message": message,
        });
        let _: i64 = self
            .connection()
            .lpush(self.keys.dead(), letter.to_string())
            .unwrap();
    }

    fn ids(&self) -> Vec<String> {
        let letters = self.json(&["list"]);
        letters
            .iter()
            .map(|letter| letter["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The messages on the list of this priority.
    fn queued(&self, priority: u8) -> Vec<Value> {
        let list = self.keys.priority_list(keys::QUEUE, priority);
        let messages: Vec<String> = self.connection().lrange(list, 0, -1).unwrap();
        messages
            .iter()
            .map(|message| serde_json::from_str(message).unwrap())
            .collect()
    }
}

/// A message of a job, as a server sends it.
fn message(id: &str, job: JobId, server: ServerId) -> String {
    let kwargs = json!({
        "job": job, "sha256": "07".repeat(32), "size": 10, "image_url": "x", "owner": "local",
        "server": server, "run": 0,
    });
    json!({
        "body": json!([[], kwargs, {}]).to_string(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "id": id, "root_id": id, "task": "imgsys.analyze", "retries": 3, "redelivered": true,
            "expires": "2020-01-01T00:00:00+00:00",
        },
        "properties": {
            "correlation_id": id, "priority": 7, "delivery_tag": "old",
            "delivery_info": {"exchange": "", "routing_key": "imgsys", "redelivered": true},
        },
    })
    .to_string()
}

fn of_nobody(id: &str) -> String {
    message(id, JobId::generate(), ServerId::from_bytes([0; 16]))
}

#[test]
fn letters_are_listed_and_shown() {
    let world = World::new();
    world.dead(&["list"]).assert().success().stdout(is_empty());
    world.set_aside("unknown_task", &of_nobody("first"));
    world.set_aside("not_json", "no { json");
    let letters = world.json(&["list"]);
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["task"], "first");
    assert_eq!(letters[1]["reason"], "not_json");
    assert_eq!(letters[1]["task"], Value::Null);
    assert_eq!(letters[1]["bytes"], 9);
    let only = world.json(&["list", "--reason", "not_json"]);
    assert_eq!(only, letters[1..]);
    // Somebody else's text does nothing to a terminal.
    let plain = contains("2025-11-24 04:00:00").and(contains("\\u{1b}[31m"));
    world.dead(&["list"]).assert().stdout(plain);

    let id = letters[1]["id"].as_str().unwrap();
    for name in [id, &id[..6], "first"] {
        let letter = world.json(&["show", name]).remove(0);
        assert!(letter["message"].is_string(), "{letter}");
        let shown = world.dead(&["show", name]).assert().success();
        shown.stdout(contains(letter["reason"].as_str().unwrap()));
    }
    // What is called by an id stays it, whatever else comes and goes.
    world.set_aside("not_json", "another");
    assert_eq!(world.json(&["show", id])[0]["message"], "no { json");
    world
        .dead(&["show", "0000"])
        .assert()
        .code(1)
        .stderr(contains("no dead letter is called 0000"));
}

#[test]
fn entry_that_is_no_letter_is_listed_and_dropped() {
    let world = World::new();
    let _: i64 = world
        .connection()
        .lpush(world.keys.dead(), b"\xff{".as_slice())
        .unwrap();
    assert_eq!(world.json(&["list"])[0]["reason"], "no_letter");
    let id = world.ids().remove(0);
    world.dead(&["requeue", &id]).assert().code(1);
    world.dead(&["drop", &id]).assert().success();
    assert!(world.ids().is_empty());
}

#[test]
fn requeued_message_begins_anew_on_its_own_list() {
    let world = World::new();
    world.set_aside("dead_letter", &of_nobody("task"));
    let takeovers = world.keys.takeovers();
    let _: i64 = world
        .connection()
        .hset(&takeovers, "task", "alone")
        .unwrap();
    let told = world.json(&["requeue", "task"]).remove(0);
    assert_eq!(told["state"], "queued");
    assert_eq!(told["task"], "task");
    assert!(world.ids().is_empty());
    let count: i64 = world.connection().hlen(&takeovers).unwrap();
    assert_eq!(count, 0);
    let messages = world.queued(7);
    assert_eq!(messages.len(), 1);
    let (headers, properties) = (&messages[0]["headers"], &messages[0]["properties"]);
    assert_eq!(headers["id"], "task");
    assert_eq!(headers["retries"], 0);
    assert_eq!(headers["expires"], Value::Null);
    assert_eq!(headers.get("redelivered"), None);
    assert_ne!(properties["delivery_tag"], "old");
    assert_eq!(properties["delivery_info"].get("redelivered"), None);
}

#[test]
fn job_that_has_failed_gets_another_run() {
    let world = World::new();
    let (job, server) = (JobId::generate(), ServerId::generate());
    world.set_aside("dead_letter", &message(&job.to_string(), job, server));
    let open = world.keys.open(server);
    let mut c = world.connection();

    // Not while its end is on the way to the database.
    let _: i64 = c.hset(&open, job.to_string(), "1764000000000-0").unwrap();
    let id = world.ids().remove(0);
    let refused = world.dead(&["requeue", &id]).assert().code(1);
    refused.stdout(contains("not in the database yet"));
    assert!(world.queued(7).is_empty());

    let _: i64 = c.hdel(&open, job.to_string()).unwrap();
    world.dead(&["requeue", &id]).assert().success();
    let messages = world.queued(7);
    let task = format!("{job}.1");
    assert_eq!(messages[0]["headers"]["id"], task);
    assert_eq!(messages[0]["headers"]["root_id"], task);
    assert_eq!(messages[0]["properties"]["correlation_id"], task);
    let body: Value = serde_json::from_str(messages[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body[1]["run"], 1);
    let mark: String = c.hget(&open, job.to_string()).unwrap();
    assert_eq!(mark, "queued.1");
}

#[test]
fn all_of_them_only_if_that_is_meant() {
    let world = World::new();
    for number in 0..40 {
        world.set_aside("unknown_task", &of_nobody(&format!("task-{number}")));
        world.set_aside("not_json", &number.to_string());
    }
    let asked = world.dead(&["drop", "--all"]).assert().code(2);
    asked.stderr(contains("would drop 80 dead letters").and(contains("--yes")));
    assert_eq!(world.ids().len(), 80);
    world.dead(&["drop"]).assert().code(2);
    world
        .dead(&["drop", "--reason", "not_json"])
        .assert()
        .code(2);
    world
        .dead(&["drop", "0123", "--all", "--yes"])
        .assert()
        .code(2);

    let dropped = world.json(&["drop", "--all", "--reason", "not_json", "--yes"]);
    assert_eq!(dropped.len(), 40);
    assert_eq!(world.ids().len(), 40);
    // Those that can't be read are left, and told.
    world.set_aside("not_json", "{");
    let done = world.dead(&["requeue", "--all", "--yes"]).assert().code(1);
    done.stdout(contains("queued as task task-39").and(contains("no message")))
        .stderr(contains("1 dead letters are still there"));
    assert_eq!(world.queued(7).len(), 40);
    assert_eq!(world.ids().len(), 1);
}

#[test]
fn without_redis_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("unix://{}/no-redis", dir.path().display());
    Command::new(env!("CARGO_BIN_EXE_imgsys-worker"))
        .args(["--redis-url", &nowhere, "dead", "list"])
        .assert()
        .code(1)
        .stderr(contains("imgsys-worker: reading them: Redis can't tell"));
}
