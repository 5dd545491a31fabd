//! Waiting for Redis or PostgreSQL, and saying so.

use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The first pause after an error, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What the persister waits for, if it does.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    now: Option<Now>,
}

#[derive(Debug)]
struct Now {
    since: Instant,
    told: String,
    pause: Duration,
}

impl Outage {
    /// Nothing is amiss.
    pub(crate) fn none(what: &'static str) -> Self {
        Self { what, now: None }
    }

    /// It fails: says so, once for each kind of trouble, and gives the pause before the next
    /// attempt.
    pub(crate) fn goes_on(&mut self, error: &(dyn std::error::Error + 'static)) -> Duration {
        let kind = error.to_string();
        let now = self.now.get_or_insert_with(|| Now {
            since: Instant::now(),
            told: String::new(),
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
        text.push_str(": ");
        text.push_str(&error.to_string());
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
