//! The load: clients that send images and await their results, all in one thread.
//!
//! In a closed loop each connection has a fixed number of images under way. In an open loop images
//! are due at a rate, whether earlier ones are done or not, and each one's time is counted from when
//! it was due: a system that falls behind can't hide it.

mod link;

use crate::{image::Images, stats::Times, wire::Wire};
use anyhow::{Context, anyhow, bail};
use imgsys_types::Priority;
use link::Link;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{runtime::Builder, select, sync::Notify, task::JoinSet, time::timeout};

/// After how long without an end a load is given up. A million images may wait for their turn.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What the clients do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The server, as `127.0.0.1:7450`.
    pub(crate) address: String,
    /// What it speaks.
    pub(crate) wire: Wire,
    /// What is sent.
    pub(crate) images: Arc<Images>,
    /// How urgent.
    pub(crate) priority: Priority,
    /// So many clients.
    pub(crate) connections: usize,
    /// So many images of each client are under way at most.
    pub(crate) window: usize,
    /// Images a second, of all clients together, if it is an open loop.
    pub(crate) rate: Option<u32>,
    /// The first images of each client, so many, are one that the server has (see
    /// [`Images::KNOWN`]): their bytes are not sent.
    pub(crate) known: u64,
    /// When no more are sent.
    pub(crate) until: Until,
}

/// When a load ends. What is under way then is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// So much time has passed.
    After(Duration),
    /// Each client has sent so many.
    Sent(u64),
}

/// What all clients together have done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    ended: AtomicU64,
    stop: Notify,
}

impl Counts {
    /// Images whose result has come.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }

    /// Images that are accepted, or have ended without that: the peer does not say.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    counts: Arc<Counts>,
    thread: JoinHandle<anyhow::Result<Outcome>>,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Images whose result came.
    pub(crate) ended: u64,
    /// From the first submit to the last result.
    pub(crate) wall: Duration,
    /// How long each took, from when it was sent or due to its result.
    pub(crate) times: Times,
}

impl Load {
    /// Starts the clients.
    pub(crate) fn start(plan: Plan) -> anyhow::Result<Self> {
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                // Timers and sockets, in this thread alone.
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(run(plan, &shared))
            })
            .context("starting the load")?;
        Ok(Self { counts, thread })
    }

    /// How far it is.
    #[must_use]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until enough images are accepted, or the load has failed.
    pub(crate) fn await_accepted(&self, images: u64) -> anyhow::Result<()> {
        while self.counts.accepted() < images {
            if self.thread.is_finished() {
                bail!(
                    "the load ended with {} of {images} accepted",
                    self.counts.accepted()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> anyhow::Result<Outcome> {
        let panicked = |_| anyhow!("the load panicked");
        self.thread.join().map_err(panicked)?
    }

    /// Cuts the connections. What was accepted goes on without them.
    pub(crate) fn abandon(self) -> anyhow::Result<()> {
        self.counts.stop.notify_one();
        self.finish().map(drop)
    }
}

/// [`Load::start`] and [`Load::finish`].
pub(crate) fn put(plan: Plan) -> anyhow::Result<Outcome> {
    Load::start(plan)?.finish()
}

async fn run(plan: Plan, counts: &Arc<Counts>) -> anyhow::Result<Outcome> {
    let plan = Arc::new(plan);
    let mut links = Vec::with_capacity(plan.connections);
    for index in 0..plan.connections {
        links.push(Link::connect(&plan, index, counts).await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for link in links {
        tasks.spawn(link.run(start));
    }
    let all = async {
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done.context("a client")??);
        }
        anyhow::Ok(times)
    };
    let times = select! {
        () = counts.stop.notified() => Vec::new(),
        times = timeout(PATIENCE, all) => times.context("waiting for results")??,
    };
    Ok(Outcome {
        ended: times.len() as u64,
        wall: start.elapsed(),
        times: Times::of(times),
    })
}
