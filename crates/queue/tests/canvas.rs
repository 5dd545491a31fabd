//! What a message wants done after its task leaves with the task's end, and only if that counts.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{Redis, Worker, changed, names, options, python_message, until};
use imgsys_queue::keys;
use imgsys_types::{JobId, ServerId};
use redis::Commands;
use serde_json::{Value, json};

fn kwargs(job: JobId, server: ServerId, image_url: &str) -> Value {
    json!({
        "job": job.to_string(),
        "sha256": "07".repeat(32),
        "size": 10,
        "image_url": image_url,
        "owner": "local",
        "server": server.to_string(),
    })
}

fn signature(task: &str) -> Value {
    json!({"task": task, "args": [], "kwargs": {}, "options": {"task_id": task, "queue": "next"},
        "subtask_type": null, "immutable": false})
}

/// A message that has all three: on success `linked` and `chained` are sent, on failure `failed`.
fn message(id: &str, kwargs: &Value) -> String {
    let embed = json!({
        "callbacks": [signature("linked")],
        "errbacks": [signature("failed")],
        "chain": [signature("last"), signature("chained")],
        "chord": null,
    });
    python_message(id, &json!([[], kwargs, embed]))
}

/// Names and first arguments of the tasks that were sent on, and empties their queue.
fn sent_on(redis: &Redis) -> Vec<(String, Value)> {
    let mut c = redis.connection();
    let messages: Vec<String> = c.lrange("next", 0, -1).unwrap();
    let _: i64 = c.del("next").unwrap();
    let read = |text: &String| {
        let message: Value = serde_json::from_str(text).unwrap();
        let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let task = message["headers"]["task"].as_str().unwrap().to_owned();
        (task, body[0][0].clone())
    };
    let mut all: Vec<_> = messages.iter().map(read).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn result(redis: &Redis, id: &str) -> Option<Value> {
    let key = format!("celery-task-meta-{id}");
    let text: Option<String> = redis.connection().get(key).unwrap();
    text.map(|text| serde_json::from_str(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_and_chains_are_carried_on() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let mut c = redis.connection();
    let nobody = ServerId::from_bytes([0; 16]);
    let kwargs = |url: &str| kwargs(JobId::generate(), nobody, url);

    let _: i64 = c.lpush(keys::QUEUE, message("good", &kwargs("x"))).unwrap();
    until("it is done", || result(&redis, "good").is_some());
    let sent = sent_on(&redis);
    let names: Vec<&str> = sent.iter().map(|(task, _)| task.as_str()).collect();
    assert_eq!(names, ["chained", "linked"]);
    let done = result(&redis, "good").unwrap();
    assert_eq!(sent[0].1, done["result"]);
    assert_eq!(sent[1].1, done["result"]);
    let children = json!([[["linked", null], null], [["chained", null], null]]);
    assert_eq!(done["children"], children);
    assert_eq!(result(&redis, "last"), None);

    let _: i64 = c
        .lpush(keys::QUEUE, message("bad", &kwargs("nan")))
        .unwrap();
    until("it has failed", || result(&redis, "bad").is_some());
    assert_eq!(sent_on(&redis), [("failed".to_owned(), json!("bad"))]);
    for id in ["chained", "last"] {
        let theirs = result(&redis, id).unwrap();
        assert_eq!(theirs["status"], "FAILURE", "{id}");
        assert_eq!(theirs["result"], result(&redis, "bad").unwrap()["result"]);
    }

    // Arguments that make no sense are a failure, as in Python; a task that expired is none.
    let _: i64 = c
        .lpush(keys::QUEUE, message("wrong", &json!({"job": 7})))
        .unwrap();
    until("it is a dead letter", || result(&redis, "wrong").is_some());
    assert_eq!(sent_on(&redis), [("failed".to_owned(), json!("wrong"))]);
    let late = changed(
        &message("late", &kwargs("x")),
        "/headers/expires",
        json!("2020-01-01T00:00:00+00:00"),
    );
    let _: i64 = c.lpush(keys::QUEUE, late).unwrap();
    until("it has expired", || result(&redis, "late").is_some());
    assert_eq!(result(&redis, "late").unwrap()["status"], "REVOKED");
    assert_eq!(result(&redis, "last").unwrap()["status"], "REVOKED");
    assert_eq!(sent_on(&redis), []);
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_does_not_count_has_no_callbacks() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut c = redis.connection();
    let worker = Worker::start(options(&redis.url(), "one@test"));

    // The job ends while the worker is at it.
    let job = JobId::generate();
    let open = names().open(server);
    let _: () = c.hset(&open, job.to_string(), "queued").unwrap();
    let slow = message(&job.to_string(), &kwargs(job, server, "sleep:300"));
    let _: i64 = c.lpush(keys::QUEUE, slow).unwrap();
    until("it runs", || worker.seen() == 1);
    let _: () = c.hset(&open, job.to_string(), "1764000000000-0").unwrap();
    until("the message is gone", || redis.is_clear());
    assert_eq!(sent_on(&redis), []);

    // The lease is lost while the worker is at it, and nobody else knows of the task.
    let nobody = ServerId::from_bytes([0; 16]);
    let slow = message("lost", &kwargs(JobId::generate(), nobody, "sleep:300"));
    let _: i64 = c.lpush(keys::QUEUE, slow).unwrap();
    until("it runs", || worker.seen() == 2);
    let _: i64 = c.del(names().unacked()).unwrap();
    until("it has ended", || result(&redis, "lost").is_some());
    assert_eq!(sent_on(&redis), []);

    // Of a job that a server waits for, the first end counts, whoever holds the message.
    let job = JobId::generate();
    let _: () = c.hset(&open, job.to_string(), "queued").unwrap();
    let slow = message(&job.to_string(), &kwargs(job, server, "sleep:300"));
    let _: i64 = c.lpush(keys::QUEUE, slow).unwrap();
    until("it runs", || worker.seen() == 3);
    let _: i64 = c.del(names().unacked()).unwrap();
    until("it has ended", || redis.ends().len() == 1);
    assert_eq!(sent_on(&redis).len(), 2);
    worker.stop().await;
}
