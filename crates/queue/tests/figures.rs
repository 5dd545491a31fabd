//! What the queue costs, for people who change it:
//! `cargo test -p imgsys-queue --test figures -- --ignored --nocapture --test-threads 1`

mod common;

use common::{Redis, Worker, cpu, dispatch, names, options, task, tasks, until};
use imgsys_queue::{ServerEvent, listen};
use imgsys_types::ServerId;
use redis::Commands;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

fn ordinary(redis: &Redis, prefetch: usize) -> Worker {
    let mut options = options(&redis.url(), "one@test");
    options.lease = Duration::from_secs(15);
    options.prefetch = prefetch;
    Worker::start(options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn idle_worker() {
    let redis = Redis::start().without_fsync();
    let worker = ordinary(&redis, 16);
    dispatch(&redis, &[task(ServerId::generate(), "x")]).await;
    until("it is done", || redis.ends().len() == 1);
    let before = redis.calls();
    let time = Duration::from_secs(60);
    let used = cpu();
    tokio::time::sleep(time).await;
    let after = redis.calls();
    let mut sent = 0;
    for name in ["evalsha", "blmove", "ping", "client|id"] {
        let calls =
            |calls: &std::collections::HashMap<_, u64>| calls.get(name).copied().unwrap_or(0);
        sent += calls(&after) - calls(&before);
    }
    let rate = |count: u64| f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64();
    let total: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    println!(
        "idle worker: {:.2} commands/s sent, {:.2} executed in Redis (scripts' own included), \
         {:.3} % of a processor",
        rate(sent),
        rate(total),
        cpu().saturating_sub(used).as_secs_f64() / time.as_secs_f64() * 100.0
    );
    assert!(rate(sent) < 1.0);
    worker.stop().await;
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
