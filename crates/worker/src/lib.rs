//! The worker: takes tasks from the queue, analyses their images, tells the results.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`dead`] | what is done about dead letters |
//! | `source` | which URLs are fetched, and no others |
//! | `fetch`, `room` | the bytes: out of a directory, or over HTTP |
//! | `classifier` | which classifier gives the label, and its model |
//! | `metrics` | what is counted, and whether Redis is there |
//! | `pool` | the threads that analyse, panics, time limits, threads that hang |
//! | `cache` | analyses that need not be made again |
//! | `analyst` | a task from its URL to its verdict |
//!
//! The queue itself (leases, retries, the finishing script, draining) is `imgsys-queue`'s; what an
//! image is, `imgsys-analysis`'s.

pub mod cli;
pub mod dead;

mod analyst;
mod cache;
mod classifier;
mod fetch;
mod metrics;
mod pool;
mod room;
mod source;
#[cfg(test)]
mod tests;

use analyst::{Analyst, Engine};
use anyhow::Context;
use cache::Cache;
use imgsys_analysis::{Classifier, Depth, Limits, Options};
use imgsys_queue::{CeleryEvents, Drained, Producer, WorkerOptions, keys};
use imgsys_service::{
    Config, Exit, Metrics,
    config::{Decode, Events, LimitsConfig, WorkerConfig},
};
use metrics::{Metered, WorkerMetrics, WorkerProbe};
use pool::{Patience, Pool};
use source::Sources;
use std::{num::NonZero, sync::Arc, thread, time::Duration};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::info;
use uuid::Uuid;

/// Tasks held for each thread, unless the configuration says otherwise: enough that a thread finds
/// its next task here while Redis hears of the last.
const PREFETCH_PER_THREAD: usize = 8;
/// The same at most, while tasks take moments: each call of Redis costs much the same for one as for many.
const PREFETCH_PER_THREAD_MOST: usize = 32;
/// Which is as long as all that are held are done within this time.
const PREFETCH_WITHIN: Duration = Duration::from_millis(5);

/// Keeps sums of times, such as a deadline's, within what clocks can tell.
const LONGEST_TASK: Duration = Duration::from_secs(24 * 3600);

/// Works until `shutdown`, then drains.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
    // What is wrong in a word is told before anything is loaded.
    sources(&config.worker)?;
    let classifier = classifier(&config.worker)?;
    run_with(config, classifier, shutdown).await
}

/// The same with a classifier that no configuration can name: for tests, whose classifiers may be
/// what no worker should ever have.
pub async fn run_with(
    config: Config,
    classifier: Box<dyn Classifier>,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    let Config { worker, limits, .. } = &config;
    let sources = sources(worker)?;
    let threads = threads(worker);
    let (prefetch, prefetch_most) = match worker.prefetch {
        0 => (
            threads.saturating_mul(PREFETCH_PER_THREAD),
            threads.saturating_mul(PREFETCH_PER_THREAD_MOST),
        ),
        some => (some, some),
    };
    let patience = patience(limits.task_time, prefetch_most, threads);
    let metrics = WorkerMetrics::new(threads, prefetch).context("starting the metrics")?;
    let engine = engine(classifier, worker, limits, &metrics.all())?;
    let pool = Pool::new(threads, worker.max_stuck, patience)
        .context("starting the threads that analyse")?;
    let worn_out = pool.worn_out();
    let client = client(worker, sources.over_tls())?;
    let cache = cache(&config, &engine, &metrics)?;
    let max_image = limits.max_image.get();
    let analyst = Analyst::new(engine, sources, max_image, pool, client, cache);
    let probe = WorkerProbe {
        redis: Producer::new(&config.redis.secret_url()?).context("redis.url")?,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    imgsys_service::http::start(&worker.http_listen, metrics.all(), probe).await?;
    let analyzer = analyst;
    let analyst = Metered { analyzer, metrics };
    let name = name();
    let options = WorkerOptions {
        url: config.redis.secret_url()?,
        name: name.clone(),
        prefetch,
        prefetch_most,
        prefetch_within: PREFETCH_WITHIN,
        lease: worker.lease,
        task_time: patience.in_all(),
        max_retries: worker.max_retries,
        drain: worker.drain,
        events: match config.celery.events {
            Events::Off => CeleryEvents::Off,
            Events::Worker => CeleryEvents::Worker,
            Events::Task => CeleryEvents::Task,
        },
        remote_control: config.celery.remote_control,
        result_expires: config.celery.result_expires,
    };
    info!(
        threads,
        prefetch,
        queue = keys::QUEUE,
        "worker {name} begins; it waits for Redis whenever that is away"
    );
    let stop = shutdown.child_token();
    let _ending = end_when(worn_out.clone(), stop.clone());
    let ready = || imgsys_service::ready(&[("WORKER", name.clone())]);
    let Drained { finished, returned } =
        imgsys_queue::work(options, Arc::new(analyst), stop, ready)
            .await
            .context("working on the queue")?;
    info!(
        threads,
        prefetch,
        queue = keys::QUEUE,
        "worker {name} has ended: {finished} tasks finished while draining, {returned} given back"
    );
    if worn_out.is_cancelled() {
        let stuck = worker.max_stuck;
        let error = anyhow::anyhow!("more than {stuck} threads hang in analyses: start it anew");
        return Err(Exit::Failed(error));
    }
    Ok(())
}

/// Cancels one token when another is cancelled, until this is dropped.
fn end_when(cause: CancellationToken, end: CancellationToken) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        cause.cancelled().await;
        end.cancel();
    }))
}

/// Simulated labels are for load: an image that was seen before is as much of it as any other.
fn cache(config: &Config, engine: &Engine, metrics: &WorkerMetrics) -> Result<Option<Cache>, Exit> {
    let analyzer = engine.classifier.analyzer();
    let most = config.worker.cache;
    if most == 0 || analyzer.model.is_none() {
        return Ok(None);
    }
    let url = config.redis.secret_url()?;
    let cache = Cache::new(&url, most, analyzer, &engine.options, metrics.cache());
    Ok(Some(cache.context("redis.url")?))
}

/// Where images may be fetched from.
fn sources(worker: &WorkerConfig) -> Result<Sources, Exit> {
    Sources::parse(&worker.image_sources).map_err(|error| Exit::Usage(error.to_string()))
}

/// What is wrong with the configuration beyond its form. Needs a Tokio runtime.
fn check(config: &Config) -> Result<(), Exit> {
    let sources = sources(&config.worker)?;
    // Whom the system trusts is the business of the machine on which it will run.
    let known = config.worker.images.ca.is_some();
    client(&config.worker, sources.over_tls() && known)?;
    let metrics = Metrics::new("check", "").context("starting the metrics")?;
    let classifier = classifier(&config.worker)?;
    engine(classifier, &config.worker, &config.limits, &metrics)?;
    Producer::new(&config.redis.secret_url()?).context("redis.url")?;
    Ok(())
}

/// What fetches over HTTP.
fn client(worker: &WorkerConfig, over_tls: bool) -> Result<reqwest::Client, Exit> {
    let client = fetch::client(&worker.images, over_tls);
    client.map_err(|error| Exit::Usage(format!("{:#}", anyhow::Error::from(error))))
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

fn classifier(worker: &WorkerConfig) -> Result<Box<dyn Classifier>, Exit> {
    classifier::classifier(worker).map_err(|error| Exit::Usage(error.to_string()))
}

fn engine(
    classifier: Box<dyn Classifier>,
    worker: &WorkerConfig,
    limits: &LimitsConfig,
    metrics: &Metrics,
) -> Result<Engine, Exit> {
    let took = metrics::analysis_time(metrics, &classifier.analyzer().name)
        .context("starting the metrics")?;
    Ok(Engine {
        classifier,
        took,
        direct_io: worker.direct_io,
        options: Options {
            limits: Limits {
                max_pixels: limits.max_pixels,
                max_side: limits.max_side,
                max_decode_memory: limits.max_decode_memory.get(),
            },
            depth: match worker.decode {
                Decode::Full => Depth::Full,
                Decode::Header => Depth::Header,
            },
            keep_gps: worker.keep_gps,
        },
    })
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
