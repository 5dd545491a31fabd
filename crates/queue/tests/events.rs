//! What Celery's monitors see of a worker and its tasks.

mod common;

use common::{Redis, Worker, celery::Monitor, dispatch, names, options, task, until};
use imgsys_queue::{CeleryEvents, Producer, keys};
use imgsys_types::ServerId;
use redis::Commands;
use serde_json::{Value, json};
use std::time::Duration;

const NAME: &str = "one@test";

fn worker(redis: &Redis, events: CeleryEvents) -> Worker {
    let mut options = options(&redis.url(), NAME);
    options.events = events;
    options.max_retries = 1;
    Worker::start(options)
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_comes_lives_and_goes() {
    let redis = Redis::start();
    let monitor = Monitor::start(&redis);
    let worker = worker(&redis, CeleryEvents::Worker);
    until("it lives", || monitor.last("worker-heartbeat").is_some());
    dispatch(&redis, &[task(ServerId::generate(), "x")]).await;
    until("the task is done", || redis.ends().len() == 1);
    worker.stop().await;
    until("it goes", || monitor.last("worker-offline").is_some());
    let kinds: Vec<Value> = monitor
        .all()
        .iter()
        .map(|event| event["type"].clone())
        .collect();
    assert_eq!(kinds[0], "worker-online");
    assert!(
        kinds[1..kinds.len() - 1]
            .iter()
            .all(|kind| kind == "worker-heartbeat")
    );
    let online = &monitor.all()[0];
    assert_eq!(online["hostname"], NAME);
    assert_eq!(
        (&online["freq"], &online["sw_ident"]),
        (&json!(2.0), &json!("imgsys"))
    );
    assert_eq!(
        (&online["active"], &online["processed"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(online["loadavg"].as_array().unwrap().len(), 3);
    assert_eq!(online["pid"], std::process::id());
    for number in ["utcoffset", "timestamp"] {
        assert!(online[number].is_f64(), "{online}");
    }
    for text in ["sw_ver", "sw_sys"] {
        assert!(online[text].is_string(), "{online}");
    }
    assert_eq!(monitor.last("worker-offline").unwrap()["processed"], 1);
    let clocks: Vec<u64> = monitor
        .all()
        .iter()
        .map(|event| event["clock"].as_u64().unwrap())
        .collect();
    assert!(clocks.is_sorted_by(|a, b| a < b), "{clocks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn task_has_its_events_from_message_to_end() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let monitor = Monitor::start(&redis);
    let worker = worker(&redis, CeleryEvents::Task);
    let ends = [
        "task-succeeded",
        "task-failed",
        "task-retried",
        "task-revoked",
    ];
    let cases = [
        (
            "sleep:30",
            vec!["task-received", "task-started", "task-succeeded"],
        ),
        (
            "panic:at the disco",
            vec!["task-received", "task-started", "task-failed"],
        ),
        (
            "away:9",
            vec![
                "task-received",
                "task-started",
                "task-retried",
                "task-received",
                "task-started",
                "task-failed",
            ],
        ),
    ];
    for (image_url, expected) in cases {
        let task = task(server, image_url);
        let id = task.job.id.to_string();
        dispatch(&redis, &[task]).await;
        until(image_url, || monitor.kinds(&id).len() >= expected.len());
        assert_eq!(monitor.kinds(&id), expected);
        assert!(ends.contains(expected.last().unwrap()));
    }
    let received = monitor
        .all()
        .into_iter()
        .find(|event| event["type"] == "task-received")
        .unwrap();
    assert_eq!(
        (&received["name"], &received["args"]),
        (&json!(keys::TASK), &json!("()"))
    );
    let kwargs = received["kwargs"].as_str().unwrap();
    assert!(
        kwargs.starts_with("{'job': '") && kwargs.contains("\"it's a cat.jpg\""),
        "{kwargs}"
    );
    assert_eq!(
        (&received["root_id"], &received["parent_id"]),
        (&received["uuid"], &Value::Null)
    );
    assert_eq!(
        (&received["eta"], &received["expires"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(received["retries"], 0);
    assert_eq!(monitor.last("task-received").unwrap()["retries"], 1);
    assert!(monitor.last("task-received").unwrap()["eta"].is_string());
    let succeeded = monitor.last("task-succeeded").unwrap();
    assert!(
        succeeded["runtime"].as_f64().unwrap() >= 0.03,
        "{succeeded}"
    );
    let result = succeeded["result"].as_str().unwrap();
    assert!(
        result.starts_with("{'") && result.contains("'label': 'cat'"),
        "{result}"
    );
    let retried = monitor.last("task-retried").unwrap();
    assert_eq!(retried["exception"], "Retry('the server is away')");
    let failed = monitor.last("task-failed").unwrap();
    let exception = failed["exception"].as_str().unwrap();
    assert!(
        exception.starts_with("AnalysisFailed('retries_exhausted"),
        "{exception}"
    );
    worker.stop().await;
    until("it goes", || monitor.last("worker-offline").is_some());
    assert_eq!(monitor.last("worker-offline").unwrap()["processed"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_that_is_expired_is_revoked_for_celery() {
    let redis = Redis::start();
    let monitor = Monitor::start(&redis);
    let worker = worker(&redis, CeleryEvents::Task);
    let task = task(ServerId::generate(), "x");
    let id = task.job.id.to_string();
    dispatch(&redis, &[]).await;
    let kwargs = json!({"job": id, "sha256": "07".repeat(32), "size": 1, "image_url": "x"});
    let message = common::python_message(&id, &json!([[], kwargs, {}]));
    let expired = common::changed(&message, "/headers/expires", json!("2020-01-01T00:00:00"));
    let _: i64 = redis.connection().lpush(keys::QUEUE, expired).unwrap();
    until("it ends", || monitor.last("task-revoked").is_some());
    let revoked = monitor.last("task-revoked").unwrap();
    assert_eq!(
        (&revoked["expired"], &revoked["terminated"]),
        (&json!(true), &json!(false))
    );
    let celery: String = redis.connection().get(names().task_result(&id)).unwrap();
    let celery: Value = serde_json::from_str(&celery).unwrap();
    assert_eq!(
        (&celery["status"], &celery["result"]["exc_type"]),
        (&json!("REVOKED"), &json!("TaskRevokedError"))
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_that_is_to_be_silent_is() {
    let redis = Redis::start();
    let monitor = Monitor::start(&redis);
    let worker = worker(&redis, CeleryEvents::Off);
    dispatch(&redis, &[task(ServerId::generate(), "sleep:2500")]).await;
    until("longer than a heartbeat", || redis.ends().len() == 1);
    worker.stop().await;
    assert_eq!(monitor.all(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_comes_anew_after_an_outage() {
    let mut redis = Redis::start();
    let worker = worker(&redis, CeleryEvents::Task);
    dispatch(&redis, &[task(ServerId::generate(), "x")]).await;
    until("it works", || redis.ends().len() == 1);
    redis.kill();
    // Longer than a heartbeat, for one has to fail.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    redis.restart();
    let monitor = Monitor::start(&redis);
    until("it is back", || monitor.last("worker-online").is_some());
    let next = task(ServerId::generate(), "x");
    let id = next.job.id.to_string();
    dispatch(&redis, &[next]).await;
    until("its tasks are seen", || monitor.kinds(&id).len() == 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_that_is_sent_is_told_if_that_is_wanted() {
    let redis = Redis::start();
    let monitor = Monitor::start(&redis);
    let silent = Producer::new(&redis.url()).unwrap();
    let telling = silent.clone().with_sent_events();
    let tasks = common::tasks(ServerId::generate(), "x", 250);
    silent.dispatch(&tasks[..1]).await.unwrap();
    telling.dispatch(&tasks[1..]).await.unwrap();
    until("all are told", || monitor.all().len() == 249);
    let sent = monitor.last("task-sent").unwrap();
    assert_eq!(sent["uuid"], tasks[249].job.id.to_string());
    assert_eq!(
        (&sent["root_id"], &sent["parent_id"]),
        (&sent["uuid"], &Value::Null)
    );
    assert_eq!(
        (&sent["name"], &sent["queue"]),
        (&json!(keys::TASK), &json!("imgsys"))
    );
    assert_eq!(
        (&sent["exchange"], &sent["routing_key"]),
        (&json!(""), &json!("imgsys"))
    );
    assert!(
        sent["hostname"].as_str().unwrap().starts_with("gen"),
        "{sent}"
    );
    assert!(
        sent["kwargs"].as_str().unwrap().starts_with("{'job': '"),
        "{sent}"
    );
}
