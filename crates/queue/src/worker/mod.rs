//! A worker: takes tasks from the queue, has them analysed, and ends each exactly once.
//!
//! | module | holds |
//! |---|---|
//! | `app` | the Celery app: its worker loop, our broker in it, the task |
//! | `broker` | what the worker loop sees: deliveries, acknowledgements, retries |
//! | `fetch`, `wait` | popping messages, and waiting for some without asking again and again |
//! | `leases` | the table of what is held |
//! | `tend` | renewing leases, and taking over what dead workers held |
//! | `run` | one task, from its start to its verdict |
//! | `finish` | ends on their way to Redis |
//! | `begun`, `describe` | when an analysis begins, and what monitors are told of it |
//! | `control` | what the worker answers to Celery's remote control |
//!
//! A message is popped and leased in one step, is renewed while it is held, and leaves Redis only
//! by the finishing script, by a retry, or back onto its list. So at any moment it is in exactly
//! one place, whoever dies.

mod app;
mod begun;
mod broker;
mod control;
mod describe;
mod facts;
mod fetch;
mod finish;
mod leases;
mod prefetch;
mod run;
mod tend;
mod wait;

use crate::{
    QueueError,
    celery_result::Keep,
    keys::{Keys, QUEUE},
    link::{Backoff, Link},
    monitor::{
        events::{CeleryEvents, Events},
        mailbox,
    },
    scripts,
};
use async_trait::async_trait;
pub use begun::Begun;
use control::Control;
use finish::Finish;
pub(crate) use finish::end_command;
use imgsys_types::{Analysis, Checksum, Failure, Job};
use leases::{Leases, Released};
use prefetch::Prefetch;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// How long Redis may take to hear of the last ends when the worker stops.
const FLUSH: Duration = Duration::from_secs(5);
/// How long Redis may take to hear that the worker goes.
const FAREWELL: Duration = Duration::from_secs(1);
/// The shortest lease: renewing must have a chance.
const MIN_LEASE: Duration = Duration::from_millis(500);

/// An image to be analysed.
#[derive(Debug, Clone)]
pub struct AnalyzeTask {
    /// The job.
    pub job: Job,
    /// 0 is the submission; each reanalysis adds one.
    pub run: u32,
    /// Where the image is.
    pub image_url: String,
    /// That of the image's bytes, if the server says it.
    pub checksum: Option<Checksum>,
    /// How many times a worker has taken it up, this time included.
    pub attempt: u32,
    /// Whether it runs alone in this worker, because workers have died with it.
    pub alone: bool,
    /// To be told when the analysis really begins.
    pub begun: Begun,
}

/// What came of an attempt to analyse an image.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one a task, and it is nearly always this"
)]
pub enum Verdict {
    /// It was analysed.
    Done(Analysis),
    /// It can't be analysed.
    Failed(Failure),
    /// Something that this task can't help is away, for this reason: try again later.
    Retry(String),
}

/// Analyses images.
#[async_trait]
pub trait Analyze: Send + Sync + 'static {
    /// Analyses one image. Dropped when its time is over; a panic fails the task.
    async fn analyze(&self, task: AnalyzeTask) -> Verdict;

    /// How many images it analyses at once.
    fn threads(&self) -> usize {
        1
    }

    /// Changes how many images it analyses at once: 1 at least. Says why if it does not.
    fn resize(&self, threads: usize) -> Result<(), String> {
        Err(format!("the analyzer does not change to {threads} threads"))
    }

    /// Told when the number of tasks held at once has changed.
    fn prefetches(&self, _tasks: usize) {}
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Where Redis is.
    pub url: String,
    /// The worker's name for Celery, such as `imgsys-3f9a@host`; no two workers may share one.
    pub name: String,
    /// Tasks held at once, which all run at once; those that wait for their time don't count.
    pub prefetch: usize,
    /// Up to so many are held, as long as all of them are done within [`WorkerOptions::prefetch_within`];
    /// never more than [`WorkerOptions::prefetch`] if this is not more.
    pub prefetch_most: usize,
    /// See there: how long what is urgent may wait for what is held.
    pub prefetch_within: Duration,
    /// How long a message stays this worker's without a sign of life. All workers of a queue must
    /// agree.
    pub lease: Duration,
    /// How long an analysis may take; a message may say less.
    pub task_time: Duration,
    /// How often a task may be tried again before it fails.
    pub max_retries: u32,
    /// How long running analyses may go on after the shutdown began.
    pub drain: Duration,
    /// Which events Celery's monitors are sent.
    pub events: CeleryEvents,
    /// Whether Celery's remote control is listened to.
    pub remote_control: bool,
    /// How long Celery's results are kept, to the second; zero for none.
    pub result_expires: Duration,
}

/// What became of the tasks that were held when the shutdown began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Came to an end in time.
    pub finished: u64,
    /// Were given back to the queue.
    pub returned: u64,
}

/// What the parts of a worker share.
struct Shared {
    options: WorkerOptions,
    link: Link,
    analyzer: Arc<dyn Analyze>,
    leases: Leases,
    /// How many messages more may be held.
    permits: Arc<Semaphore>,
    /// How many tasks more may run.
    slots: Semaphore,
    /// How many messages wait for their time without a permit.
    delayed: Arc<AtomicUsize>,
    finish: mpsc::UnboundedSender<Finish>,
    finished: AtomicU64,
    /// Nothing is popped any more.
    stop: CancellationToken,
    /// The task that pops.
    fetching: TaskTracker,
    events: Arc<Events>,
    control: Control,
    prefetch: Prefetch,
    begun: Instant,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}

/// Works until `shutdown` is set, then drains: nothing more is popped, what has not begun is given
/// back, what runs may go on for a while, and the rest is given back too.
///
/// `ready` is called once the worker loop runs; Redis may be away even then, and at any time later.
/// SIGINT and SIGTERM, which the worker loop catches, end it as `shutdown` does.
pub async fn work(
    options: WorkerOptions,
    analyzer: Arc<dyn Analyze>,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<Drained, QueueError> {
    let link = Link::new(&options.url)?;
    let (finish, ends) = mpsc::unbounded_channel();
    let prefetch = Prefetch::new(
        options.prefetch,
        options.prefetch_most,
        options.prefetch_within,
    );
    let shared = Arc::new(Shared {
        events: Arc::new(Events::new(&options.name, options.events)),
        options: WorkerOptions {
            lease: options.lease.max(MIN_LEASE),
            ..options
        },
        link: link.clone(),
        analyzer,
        leases: Leases::new(),
        permits: Arc::new(Semaphore::new(prefetch.now())),
        slots: Semaphore::new(prefetch.now()),
        delayed: Arc::default(),
        finish,
        finished: AtomicU64::new(0),
        stop: CancellationToken::new(),
        fetching: TaskTracker::new(),
        control: Control::new(shutdown.child_token()),
        prefetch,
        begun: Instant::now(),
    });
    let end = CancellationToken::new();
    // If the caller lets go of this, then all of it ends.
    let _stop = shared.stop.clone().drop_guard();
    let _end = end.clone().drop_guard();
    let tending = tokio::spawn(tend::tend(Arc::clone(&shared), end.clone()));
    let keep = Keep::new(shared.options.result_expires);
    let is_busy = {
        let shared = Arc::clone(&shared);
        // Twice as many as it has threads: none of them runs out of work soon.
        move || shared.leases.running() >= 2 * shared.analyzer.threads()
    };
    let finishing = tokio::spawn(
        end.clone()
            .run_until_cancelled_owned(finish::finisher(link, keep, ends, is_busy)),
    );
    let seen = tokio::spawn(be_seen(Arc::clone(&shared), end.clone()));
    let drained = app::run(&shared, ready).await;
    end.cancel();
    for task in [tending.await, finishing.await.map(drop), seen.await] {
        if let Err(error) = task {
            warn!("a part of the worker broke: {error}");
        }
    }
    drained
}

/// Sends events and answers commands until the end, which monitors are told if Redis is there.
async fn be_seen(shared: Arc<Shared>, end: CancellationToken) {
    let (link, events) = (&shared.link, &*shared.events);
    let commands = async {
        if shared.options.remote_control {
            let answer = |command| control::answer(&shared, command);
            mailbox::hear(link, &shared.options.name, events, answer, &end).await;
        }
    };
    let tasks = async {
        tokio::join!(commands, events.publish_tasks(link, &end));
    };
    // The worker's own events frame those of its tasks.
    let over = CancellationToken::new();
    let working = async {
        tasks.await;
        over.cancel();
    };
    let all = async { tokio::join!(working, events.live(link, || shared.leases.active(), &over)) };
    tokio::pin!(all);
    tokio::select! {
        _ = &mut all => {}
        () = async { end.cancelled().await; tokio::time::sleep(FAREWELL).await } => {}
    }
}

impl Shared {
    /// What things are called in Redis.
    fn keys(&self) -> &Keys {
        self.link.keys()
    }

    /// Sends an end on its way.
    fn end(&self, finish: Finish) {
        // The finisher outlives all that ends tasks.
        if self.finish.send(finish).is_err() {
            warn!("a task ended after its worker; its lease will run out");
        }
    }

    /// Ends what is held under a lease, and returns when Redis has it.
    async fn settle(&self, lease: &str, mut finish: Finish) {
        let tags = finish.tags().to_vec();
        let task_id = finish.task_id().to_owned();
        let done = finish.done();
        self.end(finish);
        if done.await.is_err() {
            return;
        }
        self.finished.fetch_add(1, Ordering::Relaxed);
        let late = self.leases.settled(lease, &tags);
        if !late.is_empty() {
            self.end(Finish::acknowledge(task_id, late));
        }
    }

    /// Puts messages back on their lists, to be the next. Gives up when `give_up` is over, for
    /// then their leases will run out.
    async fn give_back(&self, released: Vec<Released>, give_up: impl Future<Output = ()>) -> u64 {
        let mut returned = 0;
        tokio::pin!(give_up);
        for Released { task, tags } in released {
            let mut call = self.give_back_call(task.level);
            call.arg("RPUSH").arg(&task.raw).arg(&task.id).arg(&tags);
            let mut backoff = Backoff::redis();
            while let Err(_noted) = self.link.script::<u64>(&call).await {
                tokio::select! {
                    () = &mut give_up => return returned,
                    () = backoff.wait() => {}
                }
            }
            returned += 1;
        }
        returned
    }

    async fn drain(&self) -> Drained {
        self.stop.cancel();
        self.fetching.close();
        self.fetching.wait().await;
        let flush = || tokio::time::sleep(FLUSH);
        let unstarted = self.leases.take_unstarted();
        let mut returned = self.give_back(unstarted, flush()).await;
        let before = self.finished.load(Ordering::Relaxed);
        let mut busy = self.leases.busy();
        let running = *busy.borrow();
        if running > 0 {
            info!("waiting for {running} tasks to end");
        }
        if timeout(self.options.drain, busy.wait_for(|busy| *busy == 0))
            .await
            .is_err()
        {
            let unfinished = self.leases.take_unfinished();
            warn!("{} tasks have not ended in time", unfinished.len());
            returned += self.give_back(unfinished, flush()).await;
            if timeout(FLUSH, busy.wait_for(|busy| *busy == 0))
                .await
                .is_err()
            {
                warn!("Redis has not heard how all tasks ended; they will run again");
            }
        }
        Drained {
            finished: self.finished.load(Ordering::Relaxed) - before,
            returned,
        }
    }

    /// The script that puts a message back on its list; its arguments are for the caller to add.
    fn give_back_call(&self, level: u8) -> redis::ScriptInvocation<'static> {
        let script: &'static redis::Script = &scripts::GIVE_BACK;
        let keys = self.keys();
        let mut call = script.key(keys.unacked());
        call.key(keys.unacked_index())
            .key(keys.takeovers())
            .key(keys.priority_list(QUEUE, level));
        call
    }
}
