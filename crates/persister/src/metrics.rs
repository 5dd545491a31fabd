//! What the persister counts, and whether Redis and PostgreSQL are there.

use imgsys_queue::events::Entry;
use imgsys_service::{
    http::{Probe, Readiness},
    metrics::{By, Histogram, IntCounter, IntGauge, Metrics, MetricsError, observe_since},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

pub(crate) const REDIS: &str = "redis";
pub(crate) const POSTGRES: &str = "postgresql";

/// See the module. Clones share the counters.
#[derive(Debug, Clone)]
pub(crate) struct PersisterMetrics {
    all: Metrics,
    events: By<&'static str, IntCounter>,
    pub(crate) taken_over: IntCounter,
    batch: Histogram,
    commit: Histogram,
    lag: Histogram,
    up: By<&'static str, IntGauge>,
}

impl PersisterMetrics {
    pub(crate) fn new() -> Result<Self, MetricsError> {
        let all = Metrics::new("imgsys-persister", env!("CARGO_PKG_VERSION"))?;
        Ok(Self {
            events: all.counters_by(
                "imgsys_persister_events_total",
                "Events that were dealt with: written, void (of another owner or digest than their job \
                 has, or one of two results of a run, of which the other stands), or bad (refused by PostgreSQL or no event, and set aside)",
                ("outcome", str::to_owned),
                ["written", "void", "bad"],
            )?,
            taken_over: all.counter(
                "imgsys_persister_takeovers_total",
                "Events taken over that a persister had left unwritten",
            )?,
            batch: all.counts(
                "imgsys_persister_batch_events",
                "Events in a transaction that was committed",
            )?,
            commit: all.times(
                "imgsys_persister_commit_seconds",
                "Time of a transaction that was committed",
            )?,
            lag: all.times(
                "imgsys_persister_lag_seconds",
                "Time from an event's entering the stream, by Redis' clock, to its commit, by this \
                 machine's",
            )?,
            up: all.up([REDIS, POSTGRES])?,
            all,
        })
    }

    pub(crate) fn all(&self) -> Metrics {
        self.all.clone()
    }

    pub(crate) fn set_up(&self, part: &'static str, up: bool) {
        self.up.set(&part, u64::from(up));
    }

    /// So many events were committed in one transaction.
    pub(crate) fn note_commit(&self, events: usize, begun: Instant) {
        observe_since(&self.commit, begun);
        // A batch is far from the numbers that a float can't tell apart.
        self.batch
            .observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
    }

    /// What became of the events of a batch.
    pub(crate) fn note_batch(&self, written: &[&Entry], void: usize, bad: usize) {
        self.events.add(&"written", written.len() as u64);
        self.events.add(&"void", void as u64);
        self.events.add(&"bad", bad as u64);
        let now = SystemTime::now();
        for at in written.iter().filter_map(|entry| entered(&entry.id)) {
            let lag = now.duration_since(at).unwrap_or_default();
            self.lag.observe(lag.as_secs_f64());
        }
    }
}

/// When an entry entered the stream: its id begins with the milliseconds since 1970.
fn entered(id: &str) -> Option<SystemTime> {
    let millis = id.split('-').next()?.parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Tells what the persister itself has met last.
pub(crate) struct PersisterProbe {
    pub(crate) metrics: PersisterMetrics,
    pub(crate) shutdown: CancellationToken,
}

impl Probe for PersisterProbe {
    async fn look(&self) -> Readiness {
        let is_down = |part: &&'static str| {
            let gauge = self.metrics.up.get(part);
            gauge.is_none_or(|up| up.get() == 0)
        };
        let down: Vec<_> = [REDIS, POSTGRES].into_iter().filter(is_down).collect();
        Readiness {
            ready: down.is_empty() && !self.shutdown.is_cancelled(),
            down,
        }
    }
}
