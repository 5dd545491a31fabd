//! Every way in which a task can end badly is told to whoever waits for it: to the server that sent
//! it by an event with the reason, to Celery's programs by a result. A task that no server sent has
//! the result only.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Redis, Worker, celery::Remote, changed, names, options, python_message, reason,
    spawn_worker_at, until,
};
use imgsys_queue::{ServerEvent, WorkerOptions, keys, listen};
use imgsys_types::{JobId, ServerId};
use redis::Commands;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The worker that other tests start as a process of its own.
#[test]
fn worker_process() {
    common::worker_process();
}

const ONE: &str = "one@test";

/// What Celery's programs are told of an end.
#[derive(Debug, PartialEq, Eq)]
enum Celery {
    Failure,
    Revoked,
}

impl Celery {
    fn assert(&self, redis: &Redis, id: &str, reason: &str) {
        let result = names().task_result(id);
        until("Celery's result", || {
            redis.connection().exists(&result).unwrap()
        });
        let told: String = redis.connection().get(result).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let (status, kind, module) = match self {
            Self::Failure => ("FAILURE", "AnalysisFailed", "imgsys"),
            Self::Revoked => ("REVOKED", "TaskRevokedError", "celery.exceptions"),
        };
        assert_eq!(
            (&told["status"], &told["task_id"]),
            (&json!(status), &json!(id))
        );
        let exception = &told["result"];
        assert_eq!(
            (&exception["exc_type"], &exception["exc_module"]),
            (&json!(kind), &json!(module))
        );
        let message = exception["exc_message"][0].as_str().unwrap();
        assert!(message.starts_with(&format!("{reason}: ")), "{message}");
    }
}

/// A message for a job, and the job.
fn message(server: Option<ServerId>, image_url: &str) -> (JobId, String) {
    let job = JobId::generate();
    let mut kwargs = json!({
        "job": job.to_string(),
        "sha256": "07".repeat(32),
        "size": 1,
        "image_url": image_url,
        "owner": "local",
    });
    if let Some(server) = server {
        kwargs["server"] = json!(server.to_string());
    }
    let id = job.to_string();
    (job, python_message(&id, &json!([[], kwargs, {}])))
}

/// Has a worker end two tasks, one that a server sent and one that nobody did, whose messages `change`
/// has made what they are.
async fn assert_end(
    redis: &Redis,
    image_url: &str,
    change: impl Fn(&str) -> String,
    expected: &str,
    celery: Celery,
    meanwhile: impl Fn(&[String]),
) {
    let server = ServerId::generate();
    let mut news = listen(&redis.url(), server, CancellationToken::new());
    assert_eq!(news.recv().await, Some(ServerEvent::Subscribed));
    let mut c = redis.connection();
    let (job, ours) = message(Some(server), image_url);
    let (stray, nobodys) = message(None, image_url);
    let open = names().open(server);
    let _: () = c.hset(&open, job.to_string(), keys::queued(0)).unwrap();
    for message in [&ours, &nobodys] {
        let _: i64 = c.lpush(keys::QUEUE, change(message)).unwrap();
    }
    let ids = [job, stray].map(|job| job.to_string());
    meanwhile(&ids);

    let Some(ServerEvent::Result(told)) = news.recv().await else {
        panic!("the server is told nothing")
    };
    assert_eq!((told.job.id, reason(&told)), (job, expected));
    for id in &ids {
        celery.assert(redis, id, expected);
    }
    let events = redis.events();
    assert_eq!(
        events,
        [("failed".to_owned(), *told)],
        "and nothing of the stray one"
    );
    let marks: Vec<(String, String)> = c.hgetall(&open).unwrap();
    assert_eq!(marks.len(), 1);
    assert!(marks[0].1.ends_with("-0"), "{marks:?}");
    let others: Vec<String> = c.keys(names().open(keys::no_server())).unwrap();
    assert_eq!(others, Vec::<String>::new());
    until("nothing is left", || redis.is_clear());
}

fn as_it_is(message: &str) -> String {
    message.to_owned()
}

/// [`assert_end`] with a worker of this process.
async fn assert_end_here(
    options: impl FnOnce(&mut WorkerOptions),
    image_url: &str,
    change: impl Fn(&str) -> String,
    expected: &str,
    celery: Celery,
) {
    let redis = Redis::start();
    let mut chosen = common::options(&redis.url(), ONE);
    options(&mut chosen);
    let worker = Worker::start(chosen);
    assert_end(&redis, image_url, change, expected, celery, |_| ()).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired() {
    let expire = |message: &str| changed(message, "/headers/expires", json!("2020-01-01T00:00:00"));
    assert_end_here(|_| (), "x", expire, "expired", Celery::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_exhausted() {
    let once = |options: &mut WorkerOptions| options.max_retries = 1;
    assert_end_here(
        once,
        "away:9",
        as_it_is,
        "retries_exhausted",
        Celery::Failure,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limit_of_the_worker() {
    let short = |options: &mut WorkerOptions| options.task_time = Duration::from_millis(100);
    assert_end_here(short, "sleep:60000", as_it_is, "timeout", Celery::Failure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limit_of_the_message() {
    let limit = |message: &str| changed(message, "/headers/timelimit", json!([9, 0.1]));
    assert_end_here(|_| (), "sleep:60000", limit, "timeout", Celery::Failure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_arguments() {
    let spoil = |message: &str| {
        let message: Value = serde_json::from_str(message).unwrap();
        let mut body = common::body(&message);
        body[1]["size"] = json!("large");
        common::with_body(message, &body).to_string()
    };
    assert_end_here(|_| (), "x", spoil, "bad_arguments", Celery::Failure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_for_its_message() {
    let rename = |message: &str| changed(message, "/headers/task", json!("imgsys.paint"));
    assert_end_here(|_| (), "x", rename, "dead_letter", Celery::Failure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn analyzer_error() {
    assert_end_here(
        |_| (),
        "panic:at the disco",
        as_it_is,
        "analyzer_error",
        Celery::Failure,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_for_dead_workers() {
    let redis = Redis::start();
    let ended = CancellationToken::new();
    let watching = tokio::task::spawn_blocking({
        let (url, ended) = (redis.url(), ended.clone());
        move || {
            let mut child = spawn_worker_at(&url);
            while !ended.is_cancelled() {
                if child.try_wait().unwrap().is_some() {
                    child = spawn_worker_at(&url);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
    assert_end(
        &redis,
        "die:now",
        as_it_is,
        "dead_letter",
        Celery::Failure,
        |_| (),
    )
    .await;
    ended.cancel();
    watching.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_while_it_runs() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), ONE));
    let revoke = |ids: &[String]| {
        until("both run", || worker.seen() == 2);
        let mut remote = Remote::new(&redis);
        remote.call("revoke", json!({"task_id": ids, "terminate": true}));
    };
    assert_end(
        &redis,
        "sleep:60000",
        as_it_is,
        "revoked",
        Celery::Revoked,
        revoke,
    )
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_on_the_queue() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), ONE));
    let mut remote = Remote::new(&redis);
    let queue = || json!({"queue": keys::QUEUE});
    remote.call("cancel_consumer", queue());
    let revoke = |ids: &[String]| {
        let mut remote = Remote::new(&redis);
        remote.call("revoke", json!({"task_id": ids}));
        remote.call("add_consumer", queue());
    };
    assert_end(&redis, "x", as_it_is, "revoked", Celery::Revoked, revoke).await;
    assert_eq!(worker.seen(), 0);
    worker.stop().await;
}
