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
    let worker = Worker::start(eager);
    let mut remote = Remote::new(&redis);
    assert_eq!(prefetch(&mut remote), 1);
    // However slow this machine is, in the end it does two within 5 ms.
    let mut now = 1;
    for _ in 0..100 {
        dispatch(&redis, &tasks(server, "x", 400)).await;
        now = prefetch(&mut remote);
        if now > 1 {
            break;
        }
    }
    assert!((2..=MOST).contains(&now), "{now}");
    until("all is done", || queued(&redis) == 0 && held(&redis) == 0);

    // Of the first of these it may take as many as before.
    dispatch(&redis, &tasks(server, "sleep:150", 30)).await;
    until("it takes one again", || prefetch(&mut remote) == 1);
    until("the others have ended", || held(&redis) <= 1);
    let begun = worker.seen();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(queued(&redis) > 0, "nothing is left to be held");
    assert!(held(&redis) <= 1);
    assert!(worker.seen() > begun, "it goes on");
}
