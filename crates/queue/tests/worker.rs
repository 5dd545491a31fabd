//! A task's way from the server to its end.

mod common;

use common::{Redis, Worker, dispatch, names, options, reason, task, tasks, until};
use imgsys_queue::{ServerEvent, keys, listen};
use imgsys_types::{Outcome, Priority, ServerId};
use redis::Commands;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn finished_task_has_event_news_and_result_and_leaves_nothing() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut news = listen(&redis.url(), server, CancellationToken::new());
    assert_eq!(news.recv().await, Some(ServerEvent::Subscribed));
    let task = task(server, "file:///cat");
    dispatch(&redis, std::slice::from_ref(&task)).await;
    let worker = Worker::start(options(&redis.url(), "one@test"));

    let Some(ServerEvent::Result(told)) = news.recv().await else {
        panic!("no result")
    };
    let events = redis.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].0, "accepted");
    assert_eq!(events[0].1.job, task.job);
    assert_eq!(events[1], ("finished".to_owned(), (*told).clone()));
    assert_eq!(told.job, task.job);
    let result = told.result.unwrap();
    assert_eq!(result.outcome, Outcome::Done(common::analysis()));
    assert_eq!(result.worker.as_deref(), Some("one@test"));
    assert_eq!((result.run, result.attempts), (0, 1));

    let mut c = redis.connection();
    let id = task.job.id.to_string();
    let mark: String = c.hget(names().open(server), &id).unwrap();
    assert!(mark.ends_with("-0"), "{mark}");
    let celery: String = c.get(names().task_result(&id)).unwrap();
    let celery: Value = serde_json::from_str(&celery).unwrap();
    assert_eq!(celery["status"], "SUCCESS");
    assert_eq!(celery["task_id"], id);
    assert_eq!(celery["result"]["outcome"]["done"]["label"], "cat");
    let seconds: i64 = c.ttl(names().task_result(&id)).unwrap();
    assert!((1..=600).contains(&seconds));
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    let claims: Vec<String> = c.zrange(names().claims(), 0, -1).unwrap();
    assert_eq!(claims, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_not_kept_are_not_written() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut options = options(&redis.url(), "one@test");
    options.result_expires = Duration::ZERO;
    let worker = Worker::start(options);
    // One by itself, and enough for many to end in one call.
    for (count, ended) in [(1, 1), (100, 101)] {
        dispatch(&redis, &tasks(server, "file:///cat", count)).await;
        until("they have ended", || redis.ends().len() == ended);
    }
    let results: Vec<String> = redis.connection().keys(names().task_result("*")).unwrap();
    assert_eq!(results, Vec::<String>::new());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_wakes_for_each_priority_and_takes_the_urgent_first() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut options = options(&redis.url(), "one@test");
    options.prefetch = 1;
    let worker = Worker::start(options);
    // One by one, each to an idle worker.
    for (count, level) in [9, 0, 6, 3].into_iter().enumerate() {
        let mut task = task(server, "x");
        task.job.priority = Priority::new(level).unwrap();
        dispatch(&redis, &[task]).await;
        until("it is done", || redis.ends().len() == count + 1);
    }
    // All behind one that blocks the worker.
    dispatch(&redis, &[task(server, "sleep:300")]).await;
    until("it runs", || worker.seen() == 5);
    for level in [9, 3, 6, 0] {
        let mut task = task(server, "x");
        task.job.priority = Priority::new(level).unwrap();
        dispatch(&redis, &[task]).await;
    }
    until("all are done", || redis.ends().len() == 9);
    let order: Vec<u8> = redis.ends()[5..]
        .iter()
        .map(|record| record.job.priority.get())
        .collect();
    assert_eq!(order, [0, 3, 6, 9]);
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn full_worker_gives_back_what_it_claims() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let alone = |name: &str| {
        let mut options = options(&redis.url(), name);
        options.prefetch = 1;
        Worker::start(options)
    };
    let busy = alone("busy@test");
    dispatch(&redis, &[task(server, "sleep:5000")]).await;
    until("it runs", || busy.seen() == 1);
    // Its connections still wait on all lists.
    let idle = alone("idle@test");
    dispatch(&redis, &tasks(server, "x", 8)).await;
    until("the other worker does them all", || redis.ends().len() == 8);
    assert_eq!(idle.seen(), 8);
    busy.stop().await;
    idle.stop().await;
    assert_eq!(redis.ends().len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_has_its_reason() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut options = options(&redis.url(), "one@test");
    options.max_retries = 1;
    options.task_time = Duration::from_millis(200);
    let worker = Worker::start(options);
    for (image_url, expected) in [
        ("panic:at the disco", "analyzer_error"),
        ("nan:", "analyzer_error"),
        ("sleep:5000", "timeout"),
        ("away:9", "retries_exhausted"),
    ] {
        let before = redis.ends().len();
        let task = task(server, image_url);
        let id = task.job.id.to_string();
        dispatch(&redis, &[task]).await;
        until(expected, || redis.ends().len() > before);
        let last = redis.ends().pop().unwrap();
        assert_eq!(reason(&last), expected);
        let celery: String = redis.connection().get(names().task_result(&id)).unwrap();
        let celery: Value = serde_json::from_str(&celery).unwrap();
        assert_eq!(celery["status"], "FAILURE");
        let message = celery["result"]["exc_message"][0].as_str().unwrap();
        assert!(message.starts_with(expected), "{message}");
    }
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retried_task_waits_without_keeping_others_from_running() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut options = options(&redis.url(), "one@test");
    options.prefetch = 1;
    let worker = Worker::start(options);
    dispatch(&redis, &[task(server, "away:2")]).await;
    until("it was tried", || worker.seen() == 1);
    dispatch(&redis, &tasks(server, "x", 3)).await;
    until("all are done", || redis.ends().len() == 4);
    let ends = redis.ends();
    let attempts: Vec<u32> = ends
        .iter()
        .map(|record| record.result.as_ref().unwrap().attempts)
        .collect();
    assert_eq!(attempts, [1, 1, 1, 3], "the retried one comes last");
    let result = ends[3].result.as_ref().unwrap();
    assert!(
        result.queued_us > 1_000_000,
        "two pauses of at least 0.5 s and 1 s"
    );
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_of_a_task_make_one_event() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let task = task(server, "sleep:300");
    let producer = dispatch(&redis, std::slice::from_ref(&task)).await;
    let copies = std::slice::from_ref(&task);
    // Sent again after an answer that was lost: nothing; overdue: another message.
    producer.dispatch(copies).await.unwrap();
    assert_eq!(producer.requeue(copies).await.unwrap(), 1);
    let one = Worker::start(options(&redis.url(), "one@test"));
    until("it runs", || one.seen() == 1);
    // One more, while the worker has it, and one for another worker.
    assert_eq!(producer.requeue(copies).await.unwrap(), 1);
    until("the worker holds three", || {
        redis
            .connection()
            .hlen::<_, usize>(names().unacked())
            .unwrap()
            == 3
    });
    until("it is done", || redis.ends().len() == 1);
    until("nothing is left", || redis.is_clear());
    assert_eq!(one.seen(), 1, "never beside itself");
    // Too late for the queue.
    assert_eq!(producer.requeue(copies).await.unwrap(), 0);
    one.stop().await;
    assert_eq!(redis.events().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_worker_finishes_what_runs_and_gives_back_the_rest() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut first = options(&redis.url(), "one@test");
    first.prefetch = 2;
    first.drain = Duration::from_millis(600);
    let one = Worker::start(first);
    dispatch(
        &redis,
        &[task(server, "sleep:300"), task(server, "sleep:3000")],
    )
    .await;
    until("both run", || one.seen() == 2);
    dispatch(&redis, &[task(server, "away:1")]).await;
    let drained = one.stop().await;
    assert_eq!((drained.finished, drained.returned), (1, 1));
    assert_eq!(redis.ends().len(), 1);
    let two = Worker::start(options(&redis.url(), "two@test"));
    until("all are done", || redis.ends().len() == 3);
    two.stop().await;
    until("nothing is left", || redis.is_clear());
    // Nobody died, so nobody was taken over.
    let ends = redis.ends();
    let worst = ends
        .iter()
        .map(|record| record.result.as_ref().unwrap().attempts);
    assert_eq!(worst.max(), Some(2), "the retry");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_worker_does_not_wait_for_what_waits_for_its_turn() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    dispatch(&redis, &tasks(server, "idle:", 3)).await;
    until("it has them", || worker.seen() == 3);
    let begun = std::time::Instant::now();
    let drained = worker.stop().await;
    assert_eq!((drained.finished, drained.returned), (0, 3));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let two = Worker::start(options(&redis.url(), "two@test"));
    until("another has them", || two.seen() == 3);
    let attempts: Vec<u32> = two
        .analyzer
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|task| task.attempt)
        .collect();
    assert_eq!(attempts, [1, 1, 1]);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wiped_redis_gets_no_event_for_a_job_it_does_not_know() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let task = task(server, "sleep:500");
    let id = task.job.id.to_string();
    let producer = dispatch(&redis, std::slice::from_ref(&task)).await;
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it runs", || worker.seen() == 1);
    redis::cmd("FLUSHALL")
        .exec(&mut redis.connection())
        .unwrap();
    redis::cmd("SCRIPT")
        .arg("FLUSH")
        .exec(&mut redis.connection())
        .unwrap();
    until("it is done", || {
        redis.connection().exists(names().task_result(&id)).unwrap()
    });
    assert_eq!(redis.events(), []);
    // The server sends it once more.
    producer.dispatch(&[task]).await.unwrap();
    until("it is done again", || redis.ends().len() == 1);
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn task_that_no_server_sent_gets_a_celery_result_only() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let kwargs = json!({
        "job": "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c",
        "sha256": "00".repeat(32),
        "size": 1,
        "image_url": "x",
    });
    let body =
        json!([[], kwargs, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]);
    let message = common::python_message("by-hand", &body);
    let _: i64 = redis.connection().lpush(keys::QUEUE, message).unwrap();
    until("it has a result", || {
        redis
            .connection()
            .exists(names().task_result("by-hand"))
            .unwrap()
    });
    assert_eq!(redis.events(), []);
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
}
