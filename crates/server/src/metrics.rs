//! What the server counts, and how it is with the parts it needs.

use crate::{shared::Shared, tls::Obstacle};
use imgsys_service::{
    http::{LOOK, Probe, Readiness},
    metrics::{By, Gauge, Histogram, IntCounter, IntGauge, Metrics, MetricsError, set},
};
use imgsys_types::{ErrorCode, FailureReason, Job, JobResult, Outcome, Run, Timestamp};
use rustix::fs::statvfs;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const REDIS: &str = "redis";
const POSTGRES: &str = "postgresql";

/// A part of an image's way through the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Accept,
    Queued,
    Analysis,
    Told,
    Persist,
    Total,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Accept,
        Self::Queued,
        Self::Analysis,
        Self::Told,
        Self::Persist,
        Self::Total,
    ];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InQueue {
    Waiting,
    Held,
    TakenOver,
    Dead,
}

impl InQueue {
    const ALL: [Self; 4] = [Self::Waiting, Self::Held, Self::TakenOver, Self::Dead];

    fn name(self) -> String {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::TakenOver => "taken_over",
            Self::Dead => "dead",
        }
        .to_owned()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    all: Metrics,
    /// By code; `None` is accepted.
    uploads: By<Option<ErrorCode>, IntCounter>,
    upload_bytes: By<Option<ErrorCode>, IntCounter>,
    duplicates: IntCounter,
    pub(crate) goodbyes: By<ErrorCode, IntCounter>,
    pub(crate) connected: IntCounter,
    pub(crate) tls_failures: By<Obstacle, IntCounter>,
    /// By reason; `None` is done.
    jobs: By<Option<FailureReason>, IntCounter>,
    retries: IntCounter,
    stages: By<Stage, Histogram>,
    pub(crate) dispatched: IntCounter,
    pub(crate) reanalyses: IntCounter,
    pub(crate) requeued: IntCounter,
    pub(crate) images_removed: IntCounter,
    state: State,
}

/// What is looked up when somebody asks.
#[derive(Debug)]
struct State {
    up: By<&'static str, IntGauge>,
    connections: IntGauge,
    spooled: IntGauge,
    waiting: IntGauge,
    sent: IntGauge,
    oldest: Gauge,
    queue: By<InQueue, IntGauge>,
    redis_memory: IntGauge,
    redis_limit: IntGauge,
    disk_free: IntGauge,
    disk_size: IntGauge,
}

impl ServerMetrics {
    pub(crate) fn new() -> Result<Self, MetricsError> {
        let all = Metrics::new("imgsys-server", env!("CARGO_PKG_VERSION"))?;
        let code = |code: Option<ErrorCode>| code.map_or("accepted", ErrorCode::as_str).to_owned();
        let codes = || ErrorCode::ALL.iter().copied();
        let endings = || [None].into_iter().chain(codes().map(Some));
        let reason =
            |reason: Option<FailureReason>| reason.map_or("done", FailureReason::as_str).to_owned();
        let reasons = FailureReason::ALL.iter().copied().map(Some);
        Ok(Self {
            uploads: all.counters_by(
                "imgsys_uploads_total",
                "Submits that were answered: accepted, or the code with which they were refused",
                ("code", code),
                endings(),
            )?,
            upload_bytes: all.counters_by(
                "imgsys_upload_bytes_total",
                "Sizes of the images that were submitted, by the answer",
                ("code", code),
                endings(),
            )?,
            duplicates: all.counter(
                "imgsys_duplicates_total",
                "Accepted images that the owner had sent before: no bytes were stored",
            )?,
            goodbyes: all.counters_by(
                "imgsys_goodbyes_total",
                "Connections that the server ended, by the code that it gave",
                ("code", |code: ErrorCode| code.as_str().to_owned()),
                codes(),
            )?,
            connected: all.counter("imgsys_connections_total", "Connections that were accepted")?,
            tls_failures: all.counters_by(
                "imgsys_tls_failures_total",
                "Connections that got no further than TLS: plain (no TLS was spoken), late (not there \
                 within limits.handshake), refused (one side's TLS or certificate was not taken by \
                 the other), closed",
                ("reason", Obstacle::name),
                Obstacle::ALL,
            )?,
            jobs: all.counters_by(
                "imgsys_jobs_total",
                "Jobs that ended: done, or the reason for which they failed",
                ("outcome", reason),
                [None].into_iter().chain(reasons),
            )?,
            retries: all.counter(
                "imgsys_retries_total",
                "Further attempts that ended jobs had taken, after a failed one or a dead worker",
            )?,
            stages: all.times_by(
                "imgsys_stage_seconds",
                "Time of a job's stages: accept (from the last byte to the answer, the flush to the \
                 disk included), queued (to the start of the analysis), analysis (fetching included), \
                 told (from its end to the server's telling it), persist (from there to its row), and \
                 total (from accepted to told)",
                ("stage", Stage::name),
                Stage::ALL,
            )?,
            reanalyses: all.counter(
                "imgsys_reanalyses_total",
                "Later runs of jobs that were accepted",
            )?,
            dispatched: all.counter("imgsys_dispatched_total", "Tasks put on the queue")?,
            requeued: all.counter(
                "imgsys_requeued_total",
                "Tasks put on the queue once more because they were overdue",
            )?,
            images_removed: all.counter(
                "imgsys_images_removed_total",
                "Image files that were removed: too old, or of deleted jobs",
            )?,
            state: State::new(&all)?,
            all,
        })
    }

    pub(crate) fn all(&self) -> Metrics {
        self.all.clone()
    }

    /// A job is on the disk.
    pub(crate) fn note_accepted(&self, job: &Job, duplicate: bool, begun: Instant) {
        self.stages.observe(&Stage::Accept, begun.elapsed());
        self.note_answered(None, job.size);
        if duplicate {
            self.duplicates.inc();
        }
    }

    /// A submit of so many bytes was refused with this code, or accepted.
    pub(crate) fn note_answered(&self, code: Option<ErrorCode>, bytes: u64) {
        self.uploads.add(&code, 1);
        self.upload_bytes.add(&code, bytes);
    }

    /// A job's end was told.
    pub(crate) fn note_told(&self, run: &Run, result: &JobResult) {
        let reason = match &result.outcome {
            Outcome::Done(_) => None,
            Outcome::Failed(failure) => Some(failure.reason),
        };
        self.jobs.add(&reason, 1);
        let now = Timestamp::now();
        if result.worker.is_some() {
            self.retries
                .inc_by(result.attempts.saturating_sub(1).into());
            let queued = Duration::from_micros(result.queued_us);
            let analysis = Duration::from_micros(result.analysis_us);
            self.stages.observe(&Stage::Queued, queued);
            self.stages.observe(&Stage::Analysis, analysis);
            self.stages
                .observe(&Stage::Told, now.since(result.finished_at));
        }
        self.stages
            .observe(&Stage::Total, now.since(run.accepted_at));
    }

    /// A job's row was committed so long after its end was told.
    pub(crate) fn note_persisted(&self, after: Duration) {
        self.stages.observe(&Stage::Persist, after);
    }
}

impl State {
    fn new(all: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            up: all.up([REDIS, POSTGRES])?,
            connections: all.gauge("imgsys_connections", "Clients connected")?,
            spooled: all.gauge(
                "imgsys_spool_jobs",
                "Jobs in the spool: accepted and not known to be in PostgreSQL",
            )?,
            waiting: all.gauge(
                "imgsys_waiting_jobs",
                "Jobs in the spool that wait for a place in Redis, or for word whether they are there",
            )?,
            sent: all.gauge(
                "imgsys_sent_jobs",
                "Jobs of this server that are in Redis, unfinished",
            )?,
            oldest: all.seconds(
                "imgsys_oldest_job_age_seconds",
                "Since when the oldest job without a result is waiting, in spool or Redis; 0 without one",
            )?,
            queue: all.gauges_by(
                "imgsys_queue_tasks",
                "Tasks in Redis, of all servers: waiting on the queue, held by workers, taken over from \
                 dead workers and not ended, dead letters. As of the last answer of Redis",
                ("state", InQueue::name),
                InQueue::ALL,
            )?,
            redis_memory: all.gauge("imgsys_redis_memory_bytes", "Memory that Redis uses")?,
            redis_limit: all.gauge(
                "imgsys_redis_memory_limit_bytes",
                "Memory that Redis may use; 0 for no limit",
            )?,
            disk_free: all.gauge(
                "imgsys_disk_available_bytes",
                "Space for more images on their disk",
            )?,
            disk_size: all.gauge("imgsys_disk_size_bytes", "Size of the images' disk")?,
        })
    }
}

/// Looks after what the server needs.
pub(crate) struct ServerProbe {
    pub(crate) shared: Arc<Shared>,
    /// Set when clients are sent away.
    pub(crate) shutdown: CancellationToken,
}

impl Probe for ServerProbe {
    async fn look(&self) -> Readiness {
        let shared = &self.shared;
        let state = &shared.metrics.state;
        let (depth, database) = tokio::join!(
            timeout(LOOK, shared.producer.depth(shared.server)),
            timeout(LOOK, shared.reader.ping())
        );
        let mut down = Vec::new();
        let mut note = |part, up: bool| {
            state.up.set(&part, u64::from(up));
            if !up {
                down.push(part);
            }
        };
        note(REDIS, matches!(depth, Ok(Ok(_))));
        note(POSTGRES, matches!(database, Ok(Ok(()))));
        if let Ok(Ok(depth)) = depth {
            state.queue.set(&InQueue::Waiting, depth.waiting);
            state.queue.set(&InQueue::Held, depth.held);
            state.queue.set(&InQueue::TakenOver, depth.taken_over);
            state.queue.set(&InQueue::Dead, depth.dead);
            set(&state.redis_memory, depth.used_memory);
            set(&state.redis_limit, depth.max_memory);
        }
        let (waiting, sent, oldest) = {
            let book = shared.book();
            (book.waiting_len(), book.sent_len(), book.oldest())
        };
        let age = oldest.map(|at| Timestamp::now().since(at));
        state.oldest.set(age.unwrap_or_default().as_secs_f64());
        set(&state.waiting, waiting as u64);
        set(&state.sent, sent as u64);
        set(&state.spooled, shared.store.len() as u64);
        let connections = shared.connections.load(Ordering::Relaxed);
        set(&state.connections, connections as u64);
        if let Ok(disk) = statvfs(shared.store.images_dir()) {
            set(
                &state.disk_free,
                disk.f_bavail.saturating_mul(disk.f_frsize),
            );
            set(
                &state.disk_size,
                disk.f_blocks.saturating_mul(disk.f_frsize),
            );
        }
        Readiness {
            ready: !self.shutdown.is_cancelled(),
            down,
        }
    }
}
