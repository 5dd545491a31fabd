//! Waiting for Redis or PostgreSQL, and saying so.

use crate::metrics::PersisterMetrics;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The first pause after an error, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What the persister waits for, if it does.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    /// What the metrics call it.
    part: &'static str,
    metrics: PersisterMetrics,
    now: Option<Now>,
}

#[derive(Debug)]
struct Now {
    since: Instant,
    told: &'static str,
    pause: Duration,
}

impl Outage {
    /// Nothing is amiss, as far as is known.
    pub(crate) fn none(what: &'static str, part: &'static str, metrics: PersisterMetrics) -> Self {
        Self {
            what,
            part,
            metrics,
            now: None,
        }
    }

    /// It fails: says so, once as long as the trouble is of the same kind, and gives the pause
    /// before the next attempt.
    pub(crate) fn goes_on(
        &mut self,
        kind: &'static str,
        error: &(dyn std::error::Error + 'static),
    ) -> Duration {
        self.metrics.set_up(self.part, false);
        let now = self.now.get_or_insert_with(|| Now {
            since: Instant::now(),
            told: "",
            pause: PAUSES.0,
        });
        if now.told != kind {
            warn!("waiting for {}: {}", self.what, chain(error));
            now.told = kind;
        }
        let pause = now.pause;
        now.pause = (pause * 2).min(PAUSES.1);
        pause
    }

    /// It works.
    pub(crate) fn is_over(&mut self) {
        self.metrics.set_up(self.part, true);
        if let Some(now) = self.now.take() {
            let seconds = now.since.elapsed().as_secs_f64();
            info!("{} is back after {seconds:.1} s", self.what);
        }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors show their cause as their own text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The signal to end, as a thread that blocks sees it.
#[derive(Debug)]
pub(crate) struct Shutdown {
    token: CancellationToken,
    runtime: Handle,
}

impl Shutdown {
    /// Must be called on a runtime.
    pub(crate) fn new(token: CancellationToken) -> Self {
        let runtime = Handle::current();
        Self { token, runtime }
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Pauses, but not beyond the signal; whether to go on.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let cancelled = self.token.cancelled();
        self.runtime
            .block_on(async { tokio::time::timeout(time, cancelled).await })
            .is_err()
    }
}
