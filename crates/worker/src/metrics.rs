//! What the worker counts, and whether Redis is there.

use async_trait::async_trait;
use imgsys_queue::{Analyze, AnalyzeTask, Producer, Verdict};
use imgsys_service::{
    http::{LOOK, Probe, Readiness},
    metrics::{By, Histogram, IntCounter, IntGauge, Metrics, MetricsError, observe_since, set},
};
use imgsys_types::FailureReason;
use std::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const REDIS: &str = "redis";

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    Retry,
    Failed(FailureReason),
}

impl Ending {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Done(_) => Self::Done,
            Verdict::Retry(_) => Self::Retry,
            Verdict::Failed(failure) => Self::Failed(failure.reason),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Failed(reason) => reason.as_str(),
        }
        .to_owned()
    }
}

/// What is said of an image that is looked for among the analyses that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheAnswer {
    Hit,
    Miss,
    Error,
}

impl CacheAnswer {
    fn name(self) -> String {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Error => "error",
        }
        .to_owned()
    }
}

/// Counts answers of the cache.
pub(crate) type CacheCounters = By<CacheAnswer, IntCounter>;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct WorkerMetrics {
    all: Metrics,
    tasks: By<Ending, IntCounter>,
    threads: IntGauge,
    prefetch: IntGauge,
    running: IntGauge,
    task_time: Histogram,
    up: By<&'static str, IntGauge>,
    cache: CacheCounters,
}

impl WorkerMetrics {
    pub(crate) fn new(threads: usize, prefetch: usize) -> Result<Self, MetricsError> {
        let all = Metrics::new("imgsys-worker", env!("CARGO_PKG_VERSION"))?;
        let failures = FailureReason::ALL.iter().copied().map(Ending::Failed);
        let gauge = |name, help, value: usize| {
            let gauge = all.gauge(name, help)?;
            set(&gauge, value as u64);
            Ok::<_, MetricsError>(gauge)
        };
        let threads = gauge("imgsys_worker_threads", "Threads that analyse", threads)?;
        let prefetch = gauge(
            "imgsys_worker_prefetch",
            "Tasks that the worker takes from the queue at once",
            prefetch,
        )?;
        Ok(Self {
            threads,
            prefetch,
            tasks: all.counters_by(
                "imgsys_worker_tasks_total",
                "Attempts that ended: done, to be tried again later (retry), or the reason for which \
                 they failed",
                ("outcome", Ending::name),
                [Ending::Done, Ending::Retry].into_iter().chain(failures),
            )?,
            running: all.gauge(
                "imgsys_worker_running_tasks",
                "Tasks being fetched, waiting for a thread, or analysed",
            )?,
            task_time: all.times(
                "imgsys_worker_task_seconds",
                "Time of an attempt, from when it was taken up: fetching and waiting for a thread \
                 included",
            )?,
            up: all.up([REDIS])?,
            cache: all.counters_by(
                "imgsys_worker_cache_total",
                "Images looked for among the analyses that are kept: it is there (hit), it is not \
                 (miss), or Redis did not say (error)",
                ("answer", CacheAnswer::name),
                [CacheAnswer::Hit, CacheAnswer::Miss, CacheAnswer::Error],
            )?,
            all,
        })
    }

    pub(crate) fn all(&self) -> Metrics {
        self.all.clone()
    }

    pub(crate) fn cache(&self) -> CacheCounters {
        self.cache.clone()
    }
}

/// Declares how long this analyzer takes.
pub(crate) fn analysis_time(metrics: &Metrics, analyzer: &str) -> Result<Histogram, MetricsError> {
    let times = metrics.times_by(
        "imgsys_worker_analysis_seconds",
        "Time of an analysis on its thread, by analyzer: decoding, inspecting and classifying",
        ("analyzer", |()| analyzer.to_owned()),
        [()],
    )?;
    times.get(&()).cloned().ok_or(MetricsError::Missing)
}

/// Counts what an analyzer does.
pub(crate) struct Metered<A> {
    pub(crate) analyzer: A,
    pub(crate) metrics: WorkerMetrics,
}

/// Counted down again even if the task is dropped.
struct Running<'a>(&'a IntGauge);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[async_trait]
impl<A: Analyze> Analyze for Metered<A> {
    async fn analyze(&self, task: AnalyzeTask) -> Verdict {
        let metrics = &self.metrics;
        let begun = Instant::now();
        metrics.running.inc();
        let _running = Running(&metrics.running);
        let verdict = self.analyzer.analyze(task).await;
        observe_since(&metrics.task_time, begun);
        metrics.tasks.add(&Ending::of(&verdict), 1);
        verdict
    }

    fn threads(&self) -> usize {
        self.analyzer.threads()
    }

    fn resize(&self, threads: usize) -> Result<(), String> {
        self.analyzer.resize(threads)?;
        set(&self.metrics.threads, self.analyzer.threads() as u64);
        Ok(())
    }

    fn prefetches(&self, tasks: usize) {
        set(&self.metrics.prefetch, tasks as u64);
    }
}

/// Looks after what the worker needs.
pub(crate) struct WorkerProbe {
    pub(crate) redis: Producer,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) shutdown: CancellationToken,
}

impl Probe for WorkerProbe {
    async fn look(&self) -> Readiness {
        let up = matches!(timeout(LOOK, self.redis.ping()).await, Ok(Ok(())));
        self.metrics.up.set(&REDIS, u64::from(up));
        Readiness {
            ready: up && !self.shutdown.is_cancelled(),
            down: if up { Vec::new() } else { vec![REDIS] },
        }
    }
}
