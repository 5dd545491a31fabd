//! What the queue costs, for people who change it:
//! `cargo test -p imgsys-queue --test figures -- --ignored --nocapture --test-threads 1`

#![allow(clippy::unwrap_used)]

mod common;

use common::{Redis, Worker, cpu, dispatch, names, options, task, tasks, until};
use imgsys_queue::{CeleryEvents, ServerEvent, listen};
use imgsys_types::ServerId;
use redis::Commands;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

fn ordinary(redis: &Redis, prefetch: usize) -> Worker {
    let mut options = options(&redis.url(), "one@test");
    options.lease = Duration::from_secs(15);
    options.prefetch = prefetch;
    Worker::start(options)
}

/// What an idle worker costs: commands a second that it sends, those that Redis executes (with those
/// of its scripts), and the share of a processor.
async fn idle(events: CeleryEvents, remote_control: bool, time: Duration) -> (f64, f64, f64) {
    let redis = Redis::start().without_fsync();
    let mut options = options(&redis.url(), "one@test");
    options.lease = Duration::from_secs(15);
    options.events = events;
    options.remote_control = remote_control;
    let worker = Worker::start(options);
    dispatch(&redis, &[task(ServerId::generate(), "x")]).await;
    until("it is done", || redis.ends().len() == 1);
    let before = redis.calls();
    let used = cpu();
    tokio::time::sleep(time).await;
    let used = cpu().saturating_sub(used);
    let after = redis.calls();
    worker.stop().await;
    let calls = |name: &str| {
        let of = |calls: &HashMap<_, u64>| calls.get(name).copied().unwrap_or(0);
        of(&after) - of(&before)
    };
    let rate = |count: u64| f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64();
    // Asking for these figures is one of them.
    let executed = after.keys().map(|name| calls(name)).sum::<u64>() - calls("info");
    let sent = [
        "evalsha",
        "blmove",
        "ping",
        "publish",
        "client|id",
        "subscribe",
    ];
    (
        rate(sent.iter().map(|name| calls(name)).sum()),
        rate(executed),
        used.as_secs_f64() / time.as_secs_f64() * 100.0,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_worker_says_little() {
    // Shorter than what it waits for, so some of it may come twice as often as it should.
    let (sent, _, _) = idle(CeleryEvents::Task, true, Duration::from_secs(10)).await;
    assert!(sent > 0.3 && sent < 2.0, "{sent} commands/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes"]
async fn idle_worker() {
    for (what, events, remote_control) in [
        (
            "seen and steered by Celery's tools",
            CeleryEvents::Task,
            true,
        ),
        ("neither", CeleryEvents::Off, false),
    ] {
        let time = Duration::from_secs(60);
        let (sent, executed, cpu) = idle(events, remote_control, time).await;
        println!(
            "idle worker, {what}: {sent:.2} commands/s sent, {executed:.2} executed in Redis \
             (scripts' own included), {cpu:.3} % of a processor"
        );
        assert!(sent < 1.2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn events_of_tasks() {
    const COUNT: u32 = 20_000;
    // In turn, so that both have the same neighbours.
    for _ in 0..3 {
        for events in [CeleryEvents::Worker, CeleryEvents::Task] {
            let redis = Redis::start().without_fsync();
            dispatch(&redis, &tasks(ServerId::generate(), "x", COUNT as usize)).await;
            let mut options = options(&redis.url(), "one@test");
            options.lease = Duration::from_secs(15);
            options.prefetch = 16;
            options.events = events;
            let begun = Instant::now();
            let used = cpu();
            let worker = Worker::start(options);
            let mut c = redis.connection();
            until("all are done", || {
                c.xlen::<_, u32>(names().events()).unwrap() == 2 * COUNT
            });
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(COUNT);
            println!(
                "events {events:?}: {:.0} µs ({:.0} µs CPU) a task, Redis's own not counted",
                micros(begun.elapsed()),
                micros(cpu().saturating_sub(used)),
            );
            worker.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn empty_tasks() {
    for prefetch in [16, 64] {
        let redis = Redis::start().without_fsync();
        let server = ServerId::generate();
        let count = 20_000;
        let begun = Instant::now();
        let used = cpu();
        dispatch(&redis, &tasks(server, "x", count)).await;
        let sent = (begun.elapsed(), cpu().saturating_sub(used));
        let begun = Instant::now();
        let used = cpu();
        let worker = ordinary(&redis, prefetch);
        let mut c = redis.connection();
        until("all are done", || {
            c.xlen::<_, usize>(names().events()).unwrap() == 2 * count
        });
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(20_000);
        println!(
            "prefetch {prefetch}: dispatch {:.0} µs ({:.0} µs CPU) a task; \
             work {:.0} µs ({:.0} µs CPU) a task, Redis's own not counted",
            micros(sent.0),
            micros(sent.1),
            micros(begun.elapsed()),
            micros(cpu().saturating_sub(used)),
        );
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn idle_latency() {
    let redis = Redis::start().without_fsync();
    let server = ServerId::generate();
    let mut news = listen(&redis.url(), server, CancellationToken::new());
    assert_eq!(news.recv().await, Some(ServerEvent::Subscribed));
    let worker = ordinary(&redis, 16);
    let producer = dispatch(&redis, &[]).await;
    let mut times = Vec::new();
    for _ in 0..500 {
        let task = task(server, "x");
        tokio::time::sleep(Duration::from_millis(3)).await;
        let begun = Instant::now();
        producer.dispatch(&[task]).await.unwrap();
        let Some(ServerEvent::Result(_)) = news.recv().await else {
            panic!("no result")
        };
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "dispatch to result, idle: p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        times[250], times[495], times[499]
    );
    worker.stop().await;
}
