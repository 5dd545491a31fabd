//! The worker: takes tasks from the queue, analyses their images, tells the results.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | `source` | which URLs are fetched, and no others |
//! | `fetch` | the bytes: out of a directory, or over HTTP |
//! | `pool` | the threads that analyse, panics and time limits |
//! | `analyst` | a task from its URL to its verdict |
//!
//! The queue itself (leases, retries, the finishing script, draining) is `imgsys-queue`'s; what an
//! image is, `imgsys-analysis`'s.

pub mod cli;

mod analyst;
mod fetch;
mod pool;
mod source;
#[cfg(test)]
mod tests;

use analyst::{Analyst, Engine};
use anyhow::Context;
use imgsys_analysis::{Classifier, Depth, Limits, Simulated};
use imgsys_queue::{Drained, WorkerOptions, keys};
use imgsys_service::{
    Config, Exit,
    config::{ClassifierKind, Decode, LimitsConfig, WorkerConfig},
};
use pool::{Patience, Pool};
use source::Sources;
use std::{num::NonZero, sync::Arc, thread, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

/// Tasks held for each thread, unless the configuration says otherwise: enough that a thread finds
/// its next task here while Redis hears of the last.
const PREFETCH_PER_THREAD: usize = 8;

/// Keeps sums of times, such as a deadline's, within what clocks can tell.
const LONGEST_TASK: Duration = Duration::from_secs(24 * 3600);

/// Works until `shutdown`, then drains.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
    let Config { worker, limits, .. } = &config;
    let sources =
        Sources::parse(&worker.image_sources).map_err(|error| Exit::Usage(error.to_string()))?;
    let threads = threads(worker);
    let prefetch = match worker.prefetch {
        0 => threads.saturating_mul(PREFETCH_PER_THREAD),
        some => some,
    };
    let patience = patience(limits.task_time, prefetch, threads);
    let pool = Pool::new(threads, patience).context("starting the threads that analyse")?;
    let analyst = Analyst::new(
        engine(worker, limits),
        sources,
        limits.max_image.get(),
        pool,
    )
    .context("preparing to fetch over HTTP")?;
    let name = name();
    let options = WorkerOptions {
        url: config.redis.secret_url()?,
        name: name.clone(),
        prefetch,
        lease: worker.lease,
        task_time: patience.in_all(),
        max_retries: worker.max_retries,
        drain: worker.drain,
    };
    info!(
        threads,
        prefetch,
        queue = keys::QUEUE,
        "worker {name} begins; it waits for Redis whenever that is away"
    );
    let ready = || imgsys_service::ready(&[("WORKER", name.clone())]);
    let Drained { finished, returned } =
        imgsys_queue::work(options, Arc::new(analyst), shutdown, ready)
            .await
            .context("working on the queue")?;
    info!(
        threads,
        prefetch,
        queue = keys::QUEUE,
        "worker {name} has ended: {finished} tasks finished while draining, {returned} given back"
    );
    Ok(())
}

fn threads(worker: &WorkerConfig) -> usize {
    match worker.threads {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        some => some,
    }
}

/// A task's time counts from when a thread takes it up: behind it in the pool wait as many as are
/// prefetched, and they must not pay for those before them. So the queue's own limit, which counts
/// from when the task was handed over, is only a net below this one.
fn patience(task_time: Duration, prefetch: usize, threads: usize) -> Patience {
    let task_time = task_time.min(LONGEST_TASK);
    let turns = u32::try_from(prefetch.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
    Patience {
        fetch: task_time,
        begin: task_time * turns.saturating_add(1),
        run: task_time,
    }
}

fn engine(worker: &WorkerConfig, limits: &LimitsConfig) -> Engine {
    let classifier: Box<dyn Classifier> = match worker.classifier {
        ClassifierKind::Simulated => Box::new(Simulated::new(worker.delay)),
    };
    Engine {
        classifier,
        limits: Limits {
            max_pixels: limits.max_pixels,
            max_side: limits.max_side,
            max_decode_memory: limits.max_decode_memory.get(),
        },
        depth: match worker.decode {
            Decode::Full => Depth::Full,
            Decode::Header => Depth::Header,
        },
    }
}

/// A name that no other worker has: Celery's form, with a random part, for a host may run many.
fn name() -> String {
    let random = Uuid::new_v4().simple().to_string();
    let system = rustix::system::uname();
    format!(
        "imgsys-{}@{}",
        &random[..8],
        system.nodename().to_string_lossy()
    )
}
