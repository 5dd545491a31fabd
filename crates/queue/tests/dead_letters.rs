//! Messages that can't be run are set aside, and whoever waits for them is told.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Redis, Worker, changed, names, options, python_message, reason, until};
use imgsys_queue::keys;
use imgsys_types::{JobId, ServerId};
use redis::Commands;
use serde_json::{Value, json};

fn embed() -> Value {
    json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null})
}

fn kwargs(job: JobId, server: ServerId) -> Value {
    json!({
        "job": job.to_string(),
        "sha256": "07".repeat(32),
        "size": 10,
        "image_url": "x",
        "owner": "local",
        "server": server.to_string(),
        "name": "cat.jpg",
        "priority": 5,
        "submitted_at": 1_764_000_000_000_000_i64,
    })
}

/// A message as Celery 3 sent it: the task is described in the body.
fn protocol_1() -> String {
    let body = json!({
        "task": keys::TASK,
        "id": "id",
        "args": [],
        "kwargs": kwargs(JobId::generate(), ServerId::generate()),
        "retries": 0,
        "eta": null,
        "expires": null,
        "utc": true,
    });
    let message = serde_json::from_str(&python_message("id", &body)).unwrap();
    let mut message = common::with_body(message, &body);
    message["headers"] = json!({});
    message.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_is_too_long_is_set_aside_without_most_of_it() {
    const LONG: usize = 10 << 20;
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut c = redis.connection();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let job = JobId::generate();
    let open = names().open(server);
    let _: () = c.hset(&open, job.to_string(), "queued").unwrap();
    let mut long = kwargs(job, server);
    long["more"] = "x".repeat(LONG).into();
    let id = job.to_string();
    let ours = python_message(&id, &json!([[], long, embed()]));
    for (count, message) in [ours.into_bytes(), vec![b'['; LONG]]
        .into_iter()
        .enumerate()
    {
        let _: i64 = c.lpush(keys::QUEUE, &message).unwrap();
        until("it is set aside", || redis.dead().len() == count + 1);
        let dead = &redis.dead()[0];
        assert_eq!(dead["reason"], "too_long");
        let detail = dead["detail"].as_str().unwrap();
        assert!(detail.starts_with(&message.len().to_string()), "{detail}");
        assert_eq!(dead["message"], *String::from_utf8_lossy(&message[..4096]));
    }
    let ends = redis.ends();
    assert_eq!((ends.len(), reason(&ends[0])), (1, "dead_letter"));
    let celery: String = c.get(names().task_result(&id)).unwrap();
    assert!(celery.contains("FAILURE"), "{celery}");
    until("nothing is left", || redis.is_clear());
    let good = python_message(
        "id",
        &json!([[], kwargs(JobId::generate(), server), embed()]),
    );
    let _: i64 = c.lpush(keys::QUEUE, good).unwrap();
    until("a good one runs", || worker.seen() == 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_cannot_be_run_is_a_dead_letter() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let good = || {
        python_message(
            "id",
            &json!([[], kwargs(JobId::generate(), server), embed()]),
        )
    };
    let with_embed = |name: &str, value: Value| {
        let mut embed = embed();
        embed[name] = value;
        python_message("id", &json!([[], kwargs(JobId::generate(), server), embed]))
    };
    let mut no_headers: Value = serde_json::from_str(&good()).unwrap();
    no_headers.as_object_mut().unwrap().remove("headers");
    let letters: Vec<(Vec<u8>, &str)> = vec![
        (b"nonsense".to_vec(), "not_json"),
        (b"\xff\xfe{}".to_vec(), "not_json"),
        ("{\"body\":".repeat(10_000).into(), "not_protocol_2"),
        (format!("{{\"x\":{}", "[".repeat(10_000)).into(), "not_json"),
        (b"{}".to_vec(), "not_protocol_2"),
        (b"[1, 2]".to_vec(), "not_protocol_2"),
        (protocol_1().into(), "not_protocol_2"),
        (no_headers.to_string().into(), "not_protocol_2"),
        (
            changed(&good(), "/body", json!("!")).into(),
            "not_protocol_2",
        ),
        (
            python_message("id", &json!({"a": 1})).into(),
            "not_protocol_2",
        ),
        (
            changed(&good(), "/headers/eta", json!("soon")).into(),
            "not_protocol_2",
        ),
        (
            changed(
                &good(),
                "/content-type",
                json!("application/x-python-serialize"),
            )
            .into(),
            "unknown_content_type",
        ),
        (
            changed(&good(), "/content-encoding", json!("binary")).into(),
            "unknown_content_encoding",
        ),
        (
            changed(&good(), "/headers/task", json!("other.task")).into(),
            "unknown_task",
        ),
        (
            with_embed("callbacks", json!([{"task": "x", "subtask_type": "chord"}])).into(),
            "unsupported_embed",
        ),
        (
            with_embed("chord", json!({"task": "x"})).into(),
            "unsupported_embed",
        ),
        (
            python_message("id", &json!([[], {"job": 7}, embed()])).into(),
            "bad_arguments",
        ),
        (
            python_message("id", &json!([vec![1; 11], {}, embed()])).into(),
            "bad_arguments",
        ),
    ];
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let mut c = redis.connection();
    for (count, (letter, reason)) in letters.iter().enumerate() {
        let _: i64 = c.lpush(keys::QUEUE, letter).unwrap();
        until(reason, || redis.dead().len() == count + 1);
        let dead = &redis.dead()[0];
        assert_eq!(dead["reason"], *reason, "{}", dead["detail"]);
        assert_eq!(dead["queue"], "imgsys");
        assert_eq!(dead["message"], *String::from_utf8_lossy(letter));
        assert!(dead["at"].as_str().unwrap().ends_with("+00:00"));
    }
    let celery: String = c.get(names().task_result("id")).unwrap();
    assert!(
        celery.contains("\"FAILURE\""),
        "whoever waits for it is told"
    );
    until("nothing is left", || redis.is_clear());
    assert_eq!((worker.seen(), redis.events().len()), (0, 0));
    // It still works.
    let _: i64 = c.lpush(keys::QUEUE, good()).unwrap();
    until("a good one runs", || worker.seen() == 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_message_cannot_be_run_fails() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut c = redis.connection();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let cases = [
        ("priority", json!(77)),
        ("size", json!("large")),
        ("image_url", json!(null)),
        ("submitted_at", json!("yesterday")),
    ];
    for (count, (name, value)) in cases.iter().enumerate() {
        let job = JobId::generate();
        let _: () = c
            .hset(names().open(server), job.to_string(), "queued")
            .unwrap();
        let mut kwargs = kwargs(job, server);
        kwargs[name] = value.clone();
        let message = python_message(&job.to_string(), &json!([[], kwargs, embed()]));
        let _: i64 = c.lpush(keys::QUEUE, message).unwrap();
        until("it has failed", || redis.ends().len() == count + 1);
        let end = redis.ends().pop().unwrap();
        assert_eq!(reason(&end), "bad_arguments");
        assert_eq!(end.job.id, job);
        assert_eq!(end.job.name, "cat.jpg");
    }
    assert_eq!(redis.dead().len(), cases.len());
    let job = JobId::generate();
    let _: () = c
        .hset(names().open(server), job.to_string(), "queued")
        .unwrap();
    let message = python_message(&job.to_string(), &json!([[], kwargs(job, server), embed()]));
    let message = changed(&message, "/headers/task", json!("imgsys.paint"));
    let _: i64 = c.lpush(keys::QUEUE, message).unwrap();
    until("it has failed", || redis.ends().len() == cases.len() + 1);
    assert_eq!(reason(&redis.ends()[cases.len()]), "dead_letter");
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_python_sends_are_honoured() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut c = redis.connection();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let cases = [
        (
            "/headers/expires",
            json!("2020-01-01T00:00:00+00:00"),
            "x",
            "expired",
        ),
        (
            "/headers/expires",
            json!("2020-01-01T00:00:00.5"),
            "x",
            "expired",
        ),
        (
            "/headers/timelimit",
            json!([null, 0.2]),
            "sleep:9000",
            "timeout",
        ),
        (
            "/headers/timelimit",
            json!([0.2, 9]),
            "sleep:9000",
            "timeout",
        ),
        (
            "/headers/eta",
            json!("2020-01-01T00:00:00+00:00"),
            "x",
            "done",
        ),
    ];
    for (count, (pointer, value, image_url, expected)) in cases.into_iter().enumerate() {
        let job = JobId::generate();
        let _: () = c
            .hset(names().open(server), job.to_string(), "queued")
            .unwrap();
        let mut kwargs = kwargs(job, server);
        kwargs["image_url"] = json!(image_url);
        // Some come without names.
        let args = json!([job.to_string(), "07".repeat(32)]);
        let message = python_message(&job.to_string(), &json!([args, kwargs, embed()]));
        let _: i64 = c
            .lpush(keys::QUEUE, changed(&message, pointer, value))
            .unwrap();
        until(expected, || redis.ends().len() == count + 1);
        assert_eq!(reason(&redis.ends()[count]), expected);
    }
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
    assert_eq!(redis.dead(), Vec::<Value>::new());
}
