//! The same image is analysed once for each analyzer, whoever sends it, and all get the same answer.

#![allow(clippy::unwrap_used)]

mod support;

use image::{Rgb, RgbImage};
use imgsys_local::Service;
use imgsys_queue::{Task, keys::Keys};
use imgsys_types::{FailureReason, JobId, JobResult, Outcome};
use redis::Commands;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};
use support::{World, png};

fn green() -> Vec<u8> {
    png(&RgbImage::from_pixel(30, 20, Rgb([0, 200, 0])).into())
}

/// Another job with the same image, of this owner.
fn again(task: &Task, owner: &str) -> Task {
    let mut again = task.clone();
    again.job.id = JobId::generate();
    again.job.owner = owner.parse().unwrap();
    again
}

async fn analyse(world: &World, tasks: &[Task]) -> Vec<JobResult> {
    world.producer.dispatch(tasks).await.unwrap();
    world.results(tasks).await
}

/// How often the worker's counter says this of its cache, and how many analyses it has made.
fn counted(worker: &Service, answer: &str) -> (u64, u64) {
    let mut stream = TcpStream::connect(worker.fact("HTTP").unwrap()).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = |series: &str| -> u64 {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(series)).unwrap();
        line.trim().parse().unwrap()
    };
    (
        value(&format!("imgsys_worker_cache_total{{answer=\"{answer}\"}}")),
        value("imgsys_worker_analysis_seconds_count{analyzer=\"color\"}"),
    )
}

fn colour(world: &World, flags: &[&str]) -> Service {
    let worker = world.worker_with_model(&[&["--onnx-name", "color"], flags].concat());
    worker.start().unwrap();
    worker
}

fn label(result: &JobResult) -> &str {
    match &result.outcome {
        Outcome::Done(analysis) => &analysis.label,
        Outcome::Failed(failure) => panic!("{failure}"),
    }
}

#[tokio::test]
async fn an_image_is_analysed_once_whoever_sends_it() {
    let world = World::new();
    let worker = colour(&world, &[]);
    let first = world.task(&green());
    // All at once: of the same image, one goes first.
    let tasks = [first.clone(), again(&first, "anna"), again(&first, "bert")];
    let results = analyse(&world, &tasks).await;
    assert_eq!(counted(&worker, "hit"), (2, 1));
    for result in &results {
        assert_eq!(label(result), "green");
        assert_eq!(
            result.outcome, results[0].outcome,
            "nothing tells where it is from"
        );
        assert_eq!((result.run, result.attempts), (0, 1));
    }
    // Each job's event is its own.
    let jobs = tasks.each_ref().map(|task| (task.job.id, task.run));
    let records = world.producer.open_states(world.server, &jobs);
    for (state, task) in records.await.unwrap().into_iter().zip(&tasks) {
        match state {
            imgsys_queue::OpenState::Ended(record) => assert_eq!(record.job, task.job),
            other => panic!("unexpected: {other:?}"),
        }
    }
    // Whoever does not have the bytes is told nothing of them.
    let absent = again(&first, "eve");
    let sha256 = absent.job.sha256.to_string();
    fs::remove_file(world.images().join(&sha256[..2]).join(&sha256)).unwrap();
    let result = &analyse(&world, &[absent]).await[0];
    let Outcome::Failed(failure) = &result.outcome else {
        panic!("{result:?}");
    };
    assert_eq!(failure.reason, FailureReason::ImageMissing);
}

#[tokio::test]
async fn another_analyzer_looks_for_itself() {
    let world = World::new();
    let first = world.task(&green());
    let worker = colour(&world, &[]);
    analyse(&world, std::slice::from_ref(&first)).await;
    worker.stop();
    // Another worker of the same kind knows what that has made.
    let same = colour(&world, &[]);
    analyse(&world, &[again(&first, "local")]).await;
    assert_eq!(counted(&same, "hit"), (1, 0));
    same.stop();
    let off = colour(&world, &["--cache", "0"]);
    analyse(&world, &[again(&first, "local")]).await;
    assert_eq!(counted(&off, "miss"), (0, 1));
    off.stop();
    // A setting that changes results changes the version.
    let next = colour(&world, &["--onnx-top-k", "1"]);
    for _ in 0..2 {
        analyse(&world, &[again(&first, "local")]).await;
    }
    assert_eq!(counted(&next, "miss"), (1, 1));
    assert_eq!(counted(&next, "hit"), (1, 1));
}

#[tokio::test]
async fn what_is_damaged_or_too_many_is_no_loss() {
    let world = World::new();
    let worker = colour(&world, &["--cache", "2"]);
    let first = world.task(&green());
    analyse(&world, std::slice::from_ref(&first)).await;
    let keys = Keys::of(&world.redis.url()).unwrap();
    let client = redis::Client::open(world.redis.url()).unwrap();
    let mut redis = client.get_connection().unwrap();
    let fields: Vec<String> = redis.hkeys(keys.analyses()).unwrap();
    let [field] = &fields[..] else {
        panic!("{fields:?}");
    };
    assert_eq!(*field, first.job.sha256.to_string());
    for damage in ["", "{", "{\"analyzer\": 1}", "\u{0}\u{ff}"] {
        let () = redis.hset(keys.analyses(), field, damage).unwrap();
        let results = analyse(&world, &[again(&first, "local")]).await;
        assert_eq!(label(&results[0]), "green", "{damage}");
    }
    // An analysis by somebody else in the place of ours is none of ours.
    let kept: String = redis.hget(keys.analyses(), field).unwrap();
    world.producer.forget(&[first.job.sha256]).await.unwrap();
    assert!(!redis.hexists::<_, _, bool>(keys.analyses(), field).unwrap());
    let other = kept
        .replace("\"color\"", "\"other\"")
        .replace("green", "red");
    assert_ne!(kept, other);
    let () = redis.hset(keys.analyses(), field, other).unwrap();
    let results = analyse(&world, &[again(&first, "local")]).await;
    assert_eq!(label(&results[0]), "green");
    assert_eq!(counted(&worker, "hit"), (0, 6));

    // The oldest makes room.
    for light in [201, 202, 203] {
        let image = RgbImage::from_pixel(30, 20, Rgb([0, light, 0]));
        analyse(&world, &[world.task(&png(&image.into()))]).await;
    }
    let kept: Vec<String> = redis.hkeys(keys.analyses()).unwrap();
    assert!(kept.len() == 2 && !kept.contains(field), "{kept:?}");
    assert_eq!(redis.llen::<_, u64>(keys.analyses_order()).unwrap(), 2);

    // Something else in its place: it is analysed all the same.
    let () = redis.set(keys.analyses(), "text").unwrap();
    let results = analyse(&world, &[again(&first, "local")]).await;
    assert_eq!(label(&results[0]), "green");
    assert_eq!(counted(&worker, "error").0, 1);
}
