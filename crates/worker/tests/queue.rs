//! The whole way of a task: queue, worker program, event.

#![allow(clippy::unwrap_used)]

use imgsys_local::{Service, Spec, TestRedis};
use imgsys_queue::{OpenState, Producer, Task};
use imgsys_types::{
    Digest, FailureReason, Job, JobId, JobResult, Outcome, Owner, Priority, ServerId, Timestamp,
};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const CAT: &[u8] = include_bytes!("../../analysis/tests/files/cat.jpg");
const DEADLINE: Duration = Duration::from_secs(60);

struct World {
    redis: TestRedis,
    dir: TempDir,
    server: ServerId,
    producer: Producer,
}

impl World {
    fn new() -> Self {
        let redis = TestRedis::start().unwrap();
        let producer = Producer::new(&redis.url()).unwrap();
        Self {
            redis,
            dir: tempfile::tempdir().unwrap(),
            server: ServerId::generate(),
            producer,
        }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn worker(&self, flags: &[&str]) -> Service {
        let images = format!("file://{}/", self.images().display());
        let spec = Spec::new("worker", env!("CARGO_BIN_EXE_imgsys-worker"))
            .args(["--redis-url", &self.redis.url()])
            .args(["--image-sources", &images])
            .args(flags);
        Service::new(spec, self.dir.path())
    }

    /// A task for these bytes, which are put where the worker looks for them.
    fn task(&self, bytes: &[u8]) -> Task {
        let sha256 = Digest::from_bytes(Sha256::digest(bytes).into());
        let name = sha256.to_string();
        let folder = self.images().join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&name), bytes).unwrap();
        Task {
            image_url: file_url(&folder.join(&name)),
            job: Job {
                id: JobId::generate(),
                owner: Owner::local(),
                sha256,
                name: "cat.jpg".into(),
                size: bytes.len() as u64,
                priority: Priority::default(),
                submitted_at: Timestamp::now(),
                server: self.server,
            },
            run: 0,
        }
    }

    /// The results of these tasks, once all have ended.
    async fn results(&self, tasks: &[Task]) -> Vec<JobResult> {
        let jobs: Vec<JobId> = tasks.iter().map(|task| task.job.id).collect();
        let begun = Instant::now();
        loop {
            let states = self.producer.open_states(self.server, &jobs).await.unwrap();
            let results = states.into_iter().map(|state| match state {
                OpenState::Ended(record) => record.result,
                OpenState::Queued | OpenState::Absent => None,
            });
            if let Some(results) = results.collect() {
                return results;
            }
            assert!(begun.elapsed() < DEADLINE, "not all tasks have ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// The cat with a comment in it, so that its digest is its own.
fn cat_number(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let comment = [0xff, 0xfe, 0, 4, high, low];
    [&CAT[..2], &comment, &CAT[2..]].concat()
}

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
