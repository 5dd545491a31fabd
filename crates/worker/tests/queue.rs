//! The whole way of a task: queue, worker program, event.

#![allow(clippy::unwrap_used)]

mod support;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use imgsys_local::Service;
use imgsys_queue::Task;
use imgsys_types::{Digest, FailureReason, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    time::{Duration, Instant},
};
use support::{CAT, DEADLINE, MODEL, World, cat_number, png};

#[tokio::test]
async fn a_task_becomes_a_result() {
    let world = World::new();
    let worker = world.worker(&[]);
    worker.start().unwrap();
    let cat = world.task(CAT);
    let text = world.task(b"this is no image");
    let mut outside = world.task(&cat_number(1));
    outside.image_url = "file:///etc/passwd".into();
    let tasks = [cat, text, outside];
    world.producer.dispatch(&tasks).await.unwrap();

    let results = world.results(&tasks).await;
    for result in &results {
        assert_eq!(result.worker, worker.fact("WORKER"));
        assert_eq!((result.run, result.attempts), (0, 1));
    }
    let Outcome::Done(analysis) = &results[0].outcome else {
        panic!("{:?}", results[0]);
    };
    assert_eq!(analysis.analyzer.name, "simulated");
    let properties = &analysis.properties;
    assert_eq!(properties.format, "jpeg");
    assert_eq!((properties.width, properties.height), (451, 300));
    for (result, reason) in [
        (&results[1], FailureReason::UnsupportedFormat),
        (&results[2], FailureReason::BadArguments),
    ] {
        let Outcome::Failed(failure) = &result.outcome else {
            panic!("{result:?}");
        };
        assert_eq!(failure.reason, reason, "{failure}");
    }
}

#[tokio::test]
async fn tasks_behind_slow_ones_are_not_charged_for_them() {
    let world = World::new();
    // Eight tasks at once for one thread: the last of them waits for much longer than its limit.
    let flags = ["--threads", "1", "--delay", "300ms", "--task-time", "1s"];
    let worker = world.worker(&flags);
    worker.start().unwrap();
    let tasks: Vec<Task> = (0..8)
        .map(|number| world.task(&cat_number(number)))
        .collect();
    world.producer.dispatch(&tasks).await.unwrap();
    for result in world.results(&tasks).await {
        assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}");
    }
}

#[tokio::test]
async fn sigterm_ends_what_runs_and_gives_back_the_rest() {
    let world = World::new();
    let flags = ["--threads", "1", "--prefetch", "4", "--delay", "200ms"];
    let worker = world.worker(&flags);
    worker.start().unwrap();
    let tasks: Vec<Task> = (0..12)
        .map(|number| world.task(&cat_number(number)))
        .collect();
    world.producer.dispatch(&tasks).await.unwrap();
    world.results(&tasks[..1]).await;

    let pid = Pid::from_raw(worker.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = worker.wait(DEADLINE).unwrap();
    assert_eq!(status.code(), Some(0), "{:?}", worker.last_lines());
    let depth = world.producer.depth(world.server).await.unwrap();
    assert_eq!(depth.held, 0);
    assert!(depth.waiting > 0, "{depth:?}");

    let next = world.worker(&["--threads", "2"]);
    next.start().unwrap();
    for result in world.results(&tasks).await {
        assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}");
        assert_eq!(result.attempts, 1);
    }
}

/// Whether this message of Celery's events says that a task has begun.
fn has_begun(message: &redis::Msg) -> bool {
    let text: String = message.get_payload().unwrap();
    let body = text.split_once(r#""body":""#).unwrap().1;
    let body = BASE64.decode(body.split_once('"').unwrap().0).unwrap();
    String::from_utf8(body).unwrap().contains("task-started")
}

#[tokio::test]
async fn second_signal_ends_at_once_and_loses_nothing() {
    for second in [Signal::TERM, Signal::INT] {
        let world = World::new();
        let flags = ["--threads", "1", "--lease", "1s", "--delay", "1h"];
        let patient = [
            "--task-time",
            "2h",
            "--drain",
            "1h",
            "--celery-events",
            "task",
        ];
        let worker = world.worker(&[&flags[..], &patient].concat());
        let mut events = redis::Client::open(world.redis.url())
            .and_then(|client| client.get_connection())
            .unwrap();
        let mut events = events.as_pubsub();
        events.subscribe("/0.celeryev/task.multi").unwrap();
        worker.start().unwrap();
        let tasks: Vec<Task> = (0..3)
            .map(|number| world.task(&cat_number(number)))
            .collect();
        world.producer.dispatch(&tasks).await.unwrap();
        while !has_begun(&events.get_message().unwrap()) {}
        let held = async |expected: u64| {
            let begun = Instant::now();
            while world.producer.depth(world.server).await.unwrap().held != expected {
                assert!(begun.elapsed() < DEADLINE, "{expected} are not held");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        held(3).await;
        let pid = Pid::from_raw(worker.pid().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        // What has not begun goes back; the other would hang for an hour.
        held(1).await;
        assert!(worker.exit().is_none());
        let begun = Instant::now();
        kill_process(pid, second).unwrap();
        let status = worker.wait(DEADLINE).unwrap();
        assert_eq!(status.code(), Some(130), "{:?}", worker.last_lines());
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );

        let next = world.worker(&["--lease", "1s"]);
        next.start().unwrap();
        let mut attempts = Vec::new();
        for result in world.results(&tasks).await {
            assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}");
            assert_eq!(result.worker, next.fact("WORKER"));
            attempts.push(result.attempts);
        }
        attempts.sort_unstable();
        assert_eq!(attempts, [1, 1, 2], "only the one that ran was taken over");
    }
}

#[tokio::test]
async fn threads_that_hang_are_replaced_and_in_the_end_the_worker_is() {
    let world = World::new();
    let flags = ["--threads", "1", "--task-time", "200ms", "--max-stuck", "1"];
    let flags = [&flags[..], &["--prefetch", "3", "--delay", "1h"]].concat();
    let worker = world.worker(&flags);
    worker.start().unwrap();
    let tasks: Vec<Task> = (0..3)
        .map(|number| world.task(&cat_number(number)))
        .collect();
    world.producer.dispatch(&tasks).await.unwrap();
    // The second had a thread only because that of the first was replaced.
    for result in world.results(&tasks[..2]).await {
        let Outcome::Failed(failure) = &result.outcome else {
            panic!("{result:?}");
        };
        assert_eq!(failure.reason, FailureReason::Timeout, "{failure}");
    }
    let status = worker.wait(DEADLINE).unwrap();
    let log = worker.last_lines().join("\n");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("threads hang in analyses"), "{log}");

    let next = world.worker(&[]);
    next.start().unwrap();
    let results = world.results(&tasks).await;
    assert!(
        matches!(results[2].outcome, Outcome::Done(_)),
        "{results:?}"
    );
    // The first worker may have taken it up and given it back.
    assert!(results[2].attempts <= 2, "{results:?}");
}

#[tokio::test]
async fn a_model_gives_the_label() {
    let world = World::new();
    let worker = world.worker_with_model(&["--onnx-name", "color"]);
    worker.start().unwrap();
    let green = RgbImage::from_pixel(300, 200, Rgb([0, 200, 0]));
    let task = world.task(&png(&green.into()));
    world
        .producer
        .dispatch(std::slice::from_ref(&task))
        .await
        .unwrap();
    let results = world.results(&[task]).await;
    let Outcome::Done(analysis) = &results[0].outcome else {
        panic!("{results:?}");
    };
    assert_eq!(analysis.label, "green");
    assert_eq!(analysis.analyzer.name, "color");
    let digest = Sha256::digest(fs::read(MODEL).unwrap());
    assert_eq!(
        analysis.analyzer.model,
        Some(Digest::from_bytes(digest.into()))
    );
    assert_eq!(analysis.properties.colors[0].rgb, "#00c800");
    assert_eq!(analysis.properties.flags, ["flat"]);
}

/// The most memory that a process has had, in bytes.
fn peak(worker: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn the_largest_images_on_all_threads_stay_within_the_memory_allowed() {
    const DECODE: u64 = 64 << 20;
    const FILE: u64 = 1 << 20;
    const THREADS: u64 = 2;
    let world = World::new();
    let limits = ["--max-decode-memory", "64MiB", "--max-image", "1MiB"];
    let threads = THREADS.to_string();
    let worker = world.worker(&[&limits[..], &["--threads", &threads]].concat());
    worker.start().unwrap();
    let idle = peak(&worker);
    // As large as they may be, each another.
    let tasks: Vec<Task> = (0..6)
        .map(|number| {
            let color = Rgba([number, 100, 200, 128]);
            let image = RgbaImage::from_pixel(4096, 4096, color);
            world.task(&png(&image.into()))
        })
        .collect();
    let over = RgbaImage::from_pixel(4096, 4097, Rgba([0; 4]));
    let over = world.task(&png(&over.into()));
    world.producer.dispatch(&tasks).await.unwrap();
    world
        .producer
        .dispatch(std::slice::from_ref(&over))
        .await
        .unwrap();
    for result in world.results(&tasks).await {
        assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}");
    }
    let refused = world.results(&[over]).await;
    let Outcome::Failed(failure) = &refused[0].outcome else {
        panic!("{refused:?}");
    };
    assert_eq!(failure.reason, FailureReason::TooLarge, "{failure}");

    let taken = peak(&worker) - idle;
    // With what the allocator keeps for itself.
    let allowed = THREADS * (DECODE + 2 * FILE) + (32 << 20);
    assert!(taken <= allowed, "{taken} bytes, more than {allowed}");
    // The images were as large as is thought here.
    assert!(taken >= DECODE, "{taken} bytes are too few");
}
