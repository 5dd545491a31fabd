//! A Redis of its own for each test, jobs, an analyzer that does what the image URL says, and
//! a worker in this process or in one that can be killed.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::needless_pass_by_value
)]

pub mod celery;
pub mod thief;

use async_trait::async_trait;
use imgsys_queue::{
    Analyze, AnalyzeTask, CeleryEvents, Drained, Producer, QueueError, Task, Verdict,
    WorkerOptions, events,
    keys::{self, Keys},
    work,
};
use imgsys_types::{
    Analysis, Analyzer, Digest, Job, JobId, JobRecord, Outcome, Owner, Priority, Properties,
    ServerId, Timestamp,
};
use redis::{Commands, Connection, cmd};
use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    runtime,
    sync::{Notify, oneshot},
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What things are called in a Redis without a prefix.
pub fn names() -> Keys {
    Keys::of("redis://localhost").unwrap()
}

/// Waits until the condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A Redis of its own, on a socket in a directory of its own.
pub struct Redis {
    dir: TempDir,
    child: Child,
    extra: Vec<String>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), &[])
    }

    /// With its files in this directory and further arguments.
    pub fn with(dir: TempDir, extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
        let child = spawn(&dir, &extra);
        let redis = Self { dir, child, extra };
        redis.wait();
        redis
    }

    /// For figures, in which the disk has no part.
    pub fn without_fsync(self) -> Self {
        cmd("CONFIG")
            .arg(&["SET", "appendfsync", "no"])
            .exec(&mut self.connection())
            .unwrap();
        self
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Dies as in a power cut, except that what it wrote to its files is kept.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, &self.extra);
        self.wait();
    }

    fn wait(&self) {
        until("Redis answers", || {
            let client = redis::Client::open(self.url()).unwrap();
            let connection = client.get_connection();
            connection.is_ok_and(|mut c| {
                let answer = cmd("PING").query::<String>(&mut c);
                answer.map_or_else(|error| error.code() == Some("NOAUTH"), |_| true)
            })
        });
    }

    /// The events so far: kind and record.
    pub fn events(&self) -> Vec<(String, JobRecord)> {
        let reply: Vec<(String, HashMap<String, String>)> = cmd("XRANGE")
            .arg(names().events())
            .arg("-")
            .arg("+")
            .query(&mut self.connection())
            .unwrap();
        reply
            .into_iter()
            .map(|(_, entry)| {
                let (kind, data) = (&entry[events::EVENT], &entry[events::DATA]);
                let record = events::decode(kind.as_bytes(), data.as_bytes()).unwrap();
                (kind.clone(), record)
            })
            .collect()
    }

    /// The events that end jobs.
    pub fn ends(&self) -> Vec<JobRecord> {
        let events = self.events().into_iter();
        events
            .filter(|(kind, _)| kind != "accepted")
            .map(|(_, record)| record)
            .collect()
    }

    /// Dead letters, newest first.
    pub fn dead(&self) -> Vec<serde_json::Value> {
        let letters: Vec<String> = self.connection().lrange(names().dead(), 0, -1).unwrap();
        letters
            .iter()
            .map(|letter| serde_json::from_str(letter).unwrap())
            .collect()
    }

    /// Whether no message is on the queue, held or claimed.
    pub fn is_clear(&self) -> bool {
        let mut c = self.connection();
        let all: Vec<String> = c.keys("*").unwrap();
        let is_list = |key: &str| {
            let of_queue =
                keys::PRIORITY_STEPS.map(|step| names().priority_list(keys::QUEUE, step));
            of_queue.iter().any(|list| list == key) || key.starts_with("imgsys:claim:")
        };
        !all.iter().any(|key| is_list(key))
            && c.hlen::<_, usize>(names().unacked()).unwrap() == 0
            && c.zcard::<_, usize>(names().unacked_index()).unwrap() == 0
            && c.hlen::<_, usize>(names().takeovers()).unwrap() == 0
    }

    /// How often a command was called.
    pub fn calls(&self) -> HashMap<String, u64> {
        let info: String = cmd("INFO")
            .arg("commandstats")
            .query(&mut self.connection())
            .unwrap();
        info.lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                let calls = rest.split(',').next()?.parse().ok()?;
                Some((name.to_owned(), calls))
            })
            .collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir, extra: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--enable-debug-command", "local"])
        .arg("--unixsocket")
        .arg(dir.path().join("socket"))
        .arg("--dir")
        .arg(dir.path())
        .args(extra)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// A job of this server, which the analyzer treats as the image URL says.
pub fn task(server: ServerId, image_url: &str) -> Task {
    let now = Timestamp::now();
    Task {
        job: Job {
            id: JobId::generate(),
            owner: Owner::local(),
            sha256: Digest::from_bytes([7; 32]),
            name: "it's a cat.jpg".to_owned(),
            size: 12_345,
            priority: Priority::default(),
            submitted_at: now,
            server,
        },
        run: 0,
        accepted_at: now,
        image_url: image_url.to_owned(),
        checksum: None,
    }
}

pub fn tasks(server: ServerId, image_url: &str, count: usize) -> Vec<Task> {
    (0..count).map(|_| task(server, image_url)).collect()
}

/// What the analyzer finds in every image.
pub fn analysis() -> Analysis {
    Analysis {
        analyzer: Analyzer {
            name: "test".to_owned(),
            version: "1".to_owned(),
            model: None,
        },
        label: "cat".to_owned(),
        confidence: 97.5,
        scores: Vec::new(),
        properties: Properties {
            format: "jpeg".to_owned(),
            width: 640,
            height: 480,
            ..Properties::default()
        },
    }
}

/// Does what the image URL says, and keeps a list of what it was given.
#[derive(Default)]
pub struct Obedient {
    pub seen: Mutex<Vec<AnalyzeTask>>,
    /// Lets those go on that don't begin.
    pub release: Notify,
}

#[async_trait]
impl Analyze for Obedient {
    async fn analyze(&self, task: AnalyzeTask) -> Verdict {
        let url = task.image_url.clone();
        let retries = task.attempt;
        if url == "idle:" {
            let released = self.release.notified();
            self.seen.lock().unwrap().push(task);
            released.await;
            return Verdict::Done(analysis());
        }
        task.begun.now();
        self.seen.lock().unwrap().push(task);
        match url.split_once(':').unwrap_or((&url, "")) {
            ("sleep", millis) => {
                tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await;
            }
            ("away", until) if retries <= until.parse().unwrap() => {
                return Verdict::Retry("the server is away".to_owned());
            }
            ("panic", why) => panic!("{why}"),
            ("nan", _) => {
                let confidence = f64::NAN;
                return Verdict::Done(Analysis {
                    confidence,
                    ..analysis()
                });
            }
            // As an analyzer does that meets a bug in some library of C.
            ("die", _) => std::process::abort(),
            _ => {}
        }
        Verdict::Done(analysis())
    }
}

pub fn options(url: &str, name: &str) -> WorkerOptions {
    WorkerOptions {
        url: url.to_owned(),
        name: name.to_owned(),
        prefetch: 8,
        prefetch_most: 0,
        prefetch_within: Duration::ZERO,
        lease: Duration::from_secs(1),
        task_time: Duration::from_secs(20),
        max_retries: 3,
        drain: Duration::from_secs(10),
        events: CeleryEvents::Worker,
        remote_control: true,
        result_expires: Duration::from_secs(600),
    }
}

/// A worker in this process.
pub struct Worker {
    pub analyzer: Arc<Obedient>,
    pub stop: CancellationToken,
    ended: oneshot::Receiver<Result<Drained, QueueError>>,
}

impl Worker {
    pub fn start(options: WorkerOptions) -> Self {
        let analyzer = Arc::new(Obedient::default());
        let stop = CancellationToken::new();
        let (tell, ended) = oneshot::channel();
        let (theirs, token) = (analyzer.clone(), stop.clone());
        // On a thread of its own, as in its program.
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let working = work(options, theirs, token, || ());
            // A test that has ended does not wait for it.
            let _ = tell.send(runtime.unwrap().block_on(working));
        });
        Self {
            analyzer,
            stop,
            ended,
        }
    }

    pub async fn stop(self) -> Drained {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap()
    }

    /// Waits for it to end by itself.
    pub async fn ended(self) -> Drained {
        self.ended.await.unwrap().unwrap()
    }

    pub fn seen(&self) -> usize {
        self.analyzer.seen.lock().unwrap().len()
    }
}

const URL: &str = "IMGSYS_TEST_WORKER_URL";

/// A worker in a process of its own, which can be killed. The test binary must have a test named
/// `worker_process` that calls [`worker_process`].
pub fn spawn_worker(redis: &Redis) -> Child {
    spawn_worker_at(&redis.url())
}

pub fn spawn_worker_at(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--nocapture"])
        .env(URL, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn worker_process() {
    let Ok(url) = std::env::var(URL) else { return };
    let name = format!("child-{}@test", std::process::id());
    let runtime = runtime::Runtime::new().unwrap();
    let working = work(
        options(&url, &name),
        Arc::new(Obedient::default()),
        CancellationToken::new(),
        || (),
    );
    runtime.block_on(working).unwrap();
}

/// The reason for which a job failed.
pub fn reason(record: &JobRecord) -> &'static str {
    match &record.result.as_ref().unwrap().outcome {
        Outcome::Failed(failure) => failure.reason.as_str(),
        Outcome::Done(_) => "done",
    }
}

pub async fn dispatch(redis: &Redis, tasks: &[Task]) -> Producer {
    let producer = Producer::new(&redis.url()).unwrap();
    producer.dispatch(tasks).await.unwrap();
    producer
}

/// A message as Python sends it, on the list without a priority.
pub fn python_message(id: &str, body: &serde_json::Value) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    let mut message: serde_json::Value =
        serde_json::from_str(include_str!("../celery-message.json")).unwrap();
    message["body"] = BASE64.encode(body.to_string()).into();
    message["headers"]["id"] = id.into();
    message["headers"]["task"] = keys::TASK.into();
    message.to_string()
}

/// The body of a message.
pub fn body(message: &serde_json::Value) -> serde_json::Value {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A message with another body.
pub fn with_body(mut message: serde_json::Value, body: &serde_json::Value) -> serde_json::Value {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    message["body"] = BASE64.encode(body.to_string()).into();
    message
}

/// A message with one value changed.
pub fn changed(message: &str, pointer: &str, value: serde_json::Value) -> String {
    let mut message: serde_json::Value = serde_json::from_str(message).unwrap();
    *message.pointer_mut(pointer).unwrap() = value;
    message.to_string()
}

/// What this process has used of its processors.
pub fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
