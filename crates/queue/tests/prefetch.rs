//! A worker holds more tasks while they take moments, and no more than it was told otherwise.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Redis, Worker, celery::Remote, dispatch, names, options, tasks, until};
use imgsys_queue::keys;
use imgsys_types::ServerId;
use redis::Commands;
use serde_json::json;
use std::time::Duration;

const NAME: &str = "one@test";
const MOST: u64 = 6;

fn held(redis: &Redis) -> u64 {
    redis.connection().hlen(names().unacked()).unwrap()
}

fn queued(redis: &Redis) -> u64 {
    let list = names().priority_list(keys::QUEUE, 5);
    redis.connection().llen(list).unwrap()
}

/// How many the worker says that it takes at once.
fn prefetch(remote: &mut Remote) -> u64 {
    let stats = remote.call("stats", json!({}));
    stats["prefetch_count"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_are_held_only_while_they_take_moments() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut eager = options(&redis.url(), NAME);
    (eager.prefetch, eager.prefetch_most) = (1, usize::try_from(MOST).unwrap());
    // So long that a busy machine does many within it, and shorter than the tasks below.
    eager.prefetch_within = Duration::from_millis(100);
    let worker = Worker::start(eager);
    let mut remote = Remote::new(&redis);
    assert_eq!(prefetch(&mut remote), 1);
    dispatch(&redis, &tasks(server, "x", 2000)).await;
    until("it holds more", || prefetch(&mut remote) > 1);
    assert!(prefetch(&mut remote) <= MOST);
    until("all is done", || queued(&redis) == 0 && held(&redis) == 0);

    // Of the first of these it may take as many as before.
    dispatch(&redis, &tasks(server, "sleep:300", 24)).await;
    until("it takes one again", || prefetch(&mut remote) == 1);
    until("the others have ended", || held(&redis) <= 1);
    let begun = worker.seen();
    until("it goes on, one by one", || {
        assert!(held(&redis) <= 1);
        worker.seen() > begun + 1
    });
    assert!(queued(&redis) > 0, "nothing is left to be held");
}
