//! What `celery control` changes about a worker.

mod common;

use common::{
    Redis, Worker,
    celery::{Monitor, Remote},
    dispatch, names, options, reason, task, tasks, until,
};
use imgsys_queue::{CeleryEvents, keys};
use imgsys_types::ServerId;
use redis::Commands;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NAME: &str = "one@test";

fn ok(text: &str) -> Value {
    json!({"ok": text})
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_tasks_end_as_revoked_wherever_they_are() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut watched = options(&redis.url(), NAME);
    watched.events = CeleryEvents::Task;
    watched.prefetch = 2;
    let monitor = Monitor::start(&redis);
    let worker = Worker::start(watched);
    let mut remote = Remote::new(&redis);
    let running = task(server, "sleep:60000");
    let reserved = task(server, "idle:");
    let queued = task(server, "x");
    let ids = [&running, &reserved, &queued].map(|task| task.job.id.to_string());
    dispatch(&redis, &[running, reserved, queued]).await;
    until("it has two", || worker.seen() == 2);

    // On the queue: remembered. Reserved: ended. Running: left alone.
    let reply = remote.call("revoke", json!({"task_id": ids}));
    assert_eq!(
        reply,
        ok(&format!(
            "tasks {{'{}', '{}', '{}'}} flagged as revoked",
            ids[0], ids[1], ids[2]
        ))
    );
    until("two have ended", || redis.ends().len() == 2);
    assert!(
        redis
            .ends()
            .iter()
            .all(|end| reason(end) == "revoked" && end.job.id.to_string() != ids[0])
    );
    assert_eq!(worker.seen(), 2, "the third never ran");
    assert_eq!(remote.call("revoked", json!({})), json!(ids));
    // Unless it is to be stopped.
    let stop = json!({"task_id": ids[0], "terminate": true, "signal": "SIGKILL"});
    assert_eq!(
        remote.call("revoke", stop),
        ok(&format!("terminate: {}", ids[0]))
    );
    until("the third has ended", || redis.ends().len() == 3);
    assert!(redis.ends().iter().all(|end| reason(end) == "revoked"));
    let unknown = json!({"signal": "TERM", "task_id": ["unknown"]});
    assert_eq!(
        remote.call("terminate", unknown),
        ok("terminate: tasks unknown")
    );
    for id in &ids {
        let celery: String = redis.connection().get(names().task_result(id)).unwrap();
        let celery: Value = serde_json::from_str(&celery).unwrap();
        assert_eq!(celery["status"], "REVOKED");
        assert_eq!(celery["result"]["exc_type"], "TaskRevokedError");
    }
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    until("it goes", || monitor.last("worker-offline").is_some());
    let terminated = |id: &str| {
        let all = monitor.all();
        let revoked = all
            .iter()
            .find(|event| event["type"] == "task-revoked" && event["uuid"] == id);
        revoked.unwrap()["terminated"].as_bool().unwrap()
    };
    assert_eq!(
        ids.each_ref().map(|id| terminated(id)),
        [true, false, false]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_task_that_is_revoked_ends_at_once() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    let kwargs = json!({"job": "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c", "sha256": "07".repeat(32), "size": 1, "image_url": "x"});
    let message = common::python_message("later", &json!([[], kwargs, {}]));
    let later = common::changed(&message, "/headers/eta", json!("2999-01-01T00:00:00+00:00"));
    let _: i64 = redis.connection().lpush(keys::QUEUE, later).unwrap();
    until("it has come", || {
        remote.call("scheduled", json!({})) != json!([])
    });
    remote.call("revoke", json!({"task_id": "later"}));
    until("nothing is left", || redis.is_clear());
    let celery: String = redis
        .connection()
        .get(names().task_result("later"))
        .unwrap();
    assert!(celery.contains("REVOKED"), "{celery}");
    assert_eq!((worker.seen(), redis.events().len()), (0, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_stops_and_resumes_taking_tasks() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    let queue = || json!({"queue": "imgsys"});
    dispatch(&redis, &[task(server, "x")]).await;
    until("it works", || redis.ends().len() == 1);
    assert_eq!(
        remote.call("cancel_consumer", queue()),
        ok("no longer consuming from imgsys")
    );
    assert_eq!(remote.call("active_queues", json!({})), json!([]));
    dispatch(&redis, &tasks(server, "x", 20)).await;
    // Another takes them, also what the first one's connections had claimed.
    let other = Worker::start(options(&redis.url(), "two@test"));
    until("the other does them all", || redis.ends().len() == 21);
    assert_eq!((worker.seen(), other.seen()), (1, 20));
    other.stop().await;
    dispatch(&redis, &[task(server, "x")]).await;
    assert_eq!(
        remote.call("add_consumer", queue()),
        ok("add consumer imgsys")
    );
    until("it works again", || worker.seen() == 2);
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_holds() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    let limit = |rate: Value| json!({"task_name": keys::TASK, "rate_limit": rate});
    assert_eq!(
        remote.call("rate_limit", limit(json!("10/s"))),
        ok("new rate limit set successfully")
    );
    assert_eq!(
        remote.call("registered", json!({})),
        json!(["imgsys.analyze [rate_limit=10/s]"])
    );
    let begun = Instant::now();
    dispatch(&redis, &tasks(server, "x", 11)).await;
    until("all are done", || redis.ends().len() == 11);
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    remote.call("rate_limit", limit(json!("1/h")));
    dispatch(&redis, &tasks(server, "x", 9)).await;
    until("one has been let through", || redis.ends().len() == 12);
    until("others wait", || {
        remote.call("reserved", json!({})).as_array().unwrap().len() == 8
    });
    assert_eq!(
        remote.call("rate_limit", limit(json!(0))),
        ok("rate limit disabled successfully")
    );
    until("the others are let through too", || {
        redis.ends().len() == 20
    });
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limited_tasks_are_given_back_by_a_worker_that_stops() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    remote.call(
        "rate_limit",
        json!({"task_name": keys::TASK, "rate_limit": "1/h"}),
    );
    dispatch(&redis, &tasks(ServerId::generate(), "x", 4)).await;
    until("one has been let through", || redis.ends().len() == 1);
    until("the others wait", || {
        remote.call("reserved", json!({})).as_array().unwrap().len() == 3
    });
    let begun = Instant::now();
    assert_eq!(worker.stop().await.returned, 3);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limit_counts_from_when_the_analysis_begins() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    let limits =
        |soft: Value, hard: Value| json!({"task_name": keys::TASK, "soft": soft, "hard": hard});
    let set = ok("time limits set successfully");
    assert_eq!(remote.call("time_limit", limits(json!(0.2), json!(9))), set);
    dispatch(
        &redis,
        &[task(server, "sleep:60000"), task(server, "idle:")],
    )
    .await;
    until("one has run into it", || redis.ends().len() == 1);
    assert_eq!(reason(&redis.ends()[0]), "timeout");
    // The other has not begun.
    worker.analyzer.release.notify_waiters();
    until("it is done", || redis.ends().len() == 2);
    assert_eq!(reason(&redis.ends()[1]), "done");
    assert_eq!(
        remote.call("time_limit", limits(Value::Null, Value::Null)),
        set
    );
    dispatch(&redis, &[task(server, "sleep:400")]).await;
    until("it is done", || redis.ends().len() == 3);
    assert_eq!(reason(&redis.ends()[2]), "done");
    worker.stop().await;
}
