//! When an analysis really begins.

use crate::monitor::{
    events::{Events, TaskEvent},
    host,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// By this an analyzer says that it begins with a task. Clones say it of the same task.
///
/// Until then the task counts as waiting for its turn: monitors see it as reserved, the time limit
/// that came with it does not run, and a worker that stops gives it back. An analyzer that never says
/// so is taken to begin never.
#[derive(Clone, Default)]
pub struct Begun(Arc<Inner>);

#[derive(Default)]
struct Inner {
    at: OnceLock<Start>,
    told: Notify,
    /// Where it is told, and of which task; nowhere in tests of analyzers.
    tell: Option<(Arc<Events>, String)>,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// In seconds since 1970.
    time: f64,
    clock: Instant,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Begun").field(&self.0.at.get()).finish()
    }
}

impl Begun {
    pub(super) fn of(events: &Arc<Events>, task_id: &str) -> Self {
        Self(Arc::new(Inner {
            tell: Some((Arc::clone(events), task_id.to_owned())),
            ..Inner::default()
        }))
    }

    /// The analysis begins. Only the first time counts. May be called on any thread.
    pub fn now(&self) {
        let start = Start {
            time: host::now(),
            clock: Instant::now(),
        };
        if self.0.at.set(start).is_err() {
            return;
        }
        if let Some((events, id)) = &self.0.tell {
            events.count();
            events.task(id, TaskEvent::Started {});
        }
        self.0.told.notify_one();
    }

    /// Returns when it has begun. For one at a time.
    pub(super) async fn wait(&self) {
        while self.0.at.get().is_none() {
            self.0.told.notified().await;
        }
    }

    /// When it began, in seconds since 1970.
    pub(super) fn time(&self) -> Option<f64> {
        self.0.at.get().map(|start| start.time)
    }

    /// How long ago it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.0
            .at
            .get()
            .map_or(Duration::ZERO, |start| start.clock.elapsed())
    }
}
