//! Celery's events: a worker comes, lives and goes; a task is received, starts and ends.
//!
//! They are published on channels and kept nowhere. Those of tasks wait for each other for a moment
//! and go out many in one message (`task.multi`), as Python's workers send them.

use super::{Clock, host, voice::Voice};
use crate::{error::is_forbidden, link::Link};
use redis::RedisResult;
use serde::Serialize;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often a worker shows that it lives: Python's default.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long events of tasks wait for more.
const LINGER: Duration = Duration::from_millis(50);
/// How many of them go in one message.
pub(super) const BATCH: usize = 100;
/// How many may wait. What is more is dropped, for nobody could follow it.
const CAPACITY: usize = 10_000;

/// Which events a worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum CeleryEvents {
    /// None: monitors can ask the worker, but don't see it.
    Off,
    /// That it comes, lives and goes; those of tasks as soon as a monitor wants them.
    #[default]
    Worker,
    /// Those of tasks too, from the start.
    Task,
}

/// What happened to a task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum TaskEvent<'a> {
    Received {
        name: &'static str,
        args: Option<&'a str>,
        kwargs: Option<&'a str>,
        root_id: Option<&'a str>,
        parent_id: Option<&'a str>,
        retries: u32,
        eta: Option<String>,
        expires: Option<String>,
    },
    Started {},
    Succeeded {
        result: String,
        runtime: f64,
    },
    Failed {
        exception: String,
        traceback: Option<&'a str>,
    },
    Retried {
        exception: String,
        traceback: Option<&'a str>,
    },
    Revoked {
        terminated: bool,
        signum: Option<u8>,
        expired: bool,
    },
}

impl TaskEvent<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Received { .. } => "task-received",
            Self::Started {} => "task-started",
            Self::Succeeded { .. } => "task-succeeded",
            Self::Failed { .. } => "task-failed",
            Self::Retried { .. } => "task-retried",
            Self::Revoked { .. } => "task-revoked",
        }
    }
}

/// What happens to a worker: its events have these fields.
#[derive(Debug, Serialize)]
struct Beat {
    freq: f64,
    active: usize,
    processed: u64,
    loadavg: [f64; 3],
    sw_ident: &'static str,
    sw_ver: &'static str,
    sw_sys: &'static str,
}

/// Sends a worker's events.
#[derive(Debug)]
pub(crate) struct Events {
    voice: Voice,
    level: AtomicU8,
    /// There are none, and there will be none.
    off: AtomicBool,
    /// Tasks that have begun.
    processed: AtomicU64,
    waiting: mpsc::Sender<String>,
    /// Until the publisher takes it.
    receiver: Mutex<Option<mpsc::Receiver<String>>>,
    dropped: AtomicU64,
}

impl Events {
    pub(crate) fn new(hostname: &str, configured: CeleryEvents) -> Self {
        let (waiting, receiver) = mpsc::channel(CAPACITY);
        Self {
            voice: Voice::new(hostname),
            off: AtomicBool::new(configured == CeleryEvents::Off),
            level: AtomicU8::new(configured as u8),
            processed: AtomicU64::new(0),
            waiting,
            receiver: Mutex::new(Some(receiver)),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether events of tasks are wanted. Ask before making one.
    pub(crate) fn tasks(&self) -> bool {
        self.level.load(Ordering::Relaxed) == CeleryEvents::Task as u8
    }

    /// Turns the events of tasks on or off. Says whether that changed anything; `None` if the worker
    /// sends no events at all.
    pub(crate) fn set_tasks(&self, on: bool) -> Option<bool> {
        if self.is_off() {
            return None;
        }
        let level = if on {
            CeleryEvents::Task
        } else {
            CeleryEvents::Worker
        };
        Some(self.level.swap(level as u8, Ordering::Relaxed) != level as u8)
    }

    /// Sends an event of a task, if such are wanted and there is room.
    pub(crate) fn task(&self, id: &str, event: TaskEvent<'_>) {
        if !self.tasks() {
            return;
        }
        let kind = event.kind();
        let Some(text) = self.voice.write(kind, Some(id), event) else {
            return;
        };
        if self.waiting.try_send(text).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A task has begun.
    pub(crate) fn count(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tasks have begun.
    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// The clock by which its events are ordered.
    pub(crate) fn clock(&self) -> &Clock {
        &self.voice.clock
    }

    async fn publish(&self, link: &Link, routing_key: &str, body: &str) -> RedisResult<()> {
        let published = self.voice.publish(link, routing_key, body).await;
        if published.as_ref().is_err_and(is_forbidden) && !self.off.swap(true, Ordering::Relaxed) {
            self.level.store(CeleryEvents::Off as u8, Ordering::Relaxed);
            warn!(
                "no events for Celery's monitors: our user of Redis may not publish them; \
                 docs/queue.md has the ACL rules"
            );
        }
        published
    }

    fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Tells that the worker comes, lives or goes (`online`, `heartbeat`, `offline`), if such events
    /// are sent.
    pub(crate) async fn beat(&self, link: &Link, what: &str, active: usize) -> RedisResult<()> {
        if self.is_off() {
            return Ok(());
        }
        let beat = Beat {
            freq: HEARTBEAT.as_secs_f64(),
            active,
            processed: self.processed(),
            loadavg: host::load(),
            sw_ident: host::SOFTWARE,
            sw_ver: host::VERSION,
            sw_sys: host::system(),
        };
        let Some(body) = self.voice.write(&format!("worker-{what}"), None, beat) else {
            return Ok(());
        };
        self.publish(link, &format!("worker.{what}"), &body).await
    }

    /// Shows that the worker lives until it ends, then tells that it goes. After an outage it comes
    /// anew, for monitors may have given it up.
    pub(crate) async fn live(
        &self,
        link: &Link,
        active: impl Fn() -> usize,
        end: &CancellationToken,
    ) {
        let mut every = interval(HEARTBEAT);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = false;
        while !self.is_off() && end.run_until_cancelled(every.tick()).await.is_some() {
            let what = if known { "heartbeat" } else { "online" };
            known = self.beat(link, what, active()).await.is_ok();
        }
        if known {
            // The link notes it if Redis is away; then nobody would hear it anyway.
            let _ = self.beat(link, "offline", active()).await;
        }
    }

    /// Publishes the events of tasks until the worker ends.
    pub(crate) async fn publish_tasks(&self, link: &Link, end: &CancellationToken) {
        let receiver = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut receiver) = receiver else { return };
        let mut batch = Vec::new();
        while let Some(Some(first)) = end.run_until_cancelled(receiver.recv()).await {
            batch.push(first);
            end.run_until_cancelled(sleep(LINGER)).await;
            self.flush(link, &mut receiver, &mut batch).await;
        }
        self.flush(link, &mut receiver, &mut batch).await;
    }

    /// Publishes all that waits. What Redis does not take is lost.
    async fn flush(
        &self,
        link: &Link,
        receiver: &mut mpsc::Receiver<String>,
        batch: &mut Vec<String>,
    ) {
        loop {
            while batch.len() < BATCH {
                match receiver.try_recv() {
                    Ok(event) => batch.push(event),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if batch.is_empty() {
                break;
            }
            let body = format!("[{}]", batch.join(","));
            if self.publish(link, "task.multi", &body).await.is_err() {
                let lost = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                self.dropped.fetch_add(lost, Ordering::Relaxed);
            }
            batch.clear();
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            warn!("{dropped} events of tasks for Celery's monitors were dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn events_are_as_python_writes_them() {
        let events = Events::new("one@test", CeleryEvents::Task);
        events.task("id", TaskEvent::Started {});
        let failed = TaskEvent::Failed {
            exception: "E()".to_owned(),
            traceback: None,
        };
        events.task("id", failed);
        let mut receiver = events.receiver.lock().unwrap().take().unwrap();
        let mut next = || -> Value { serde_json::from_str(&receiver.try_recv().unwrap()).unwrap() };
        let started = next();
        let names: Vec<&String> = started.as_object().unwrap().keys().collect();
        let expected = [
            "clock",
            "hostname",
            "pid",
            "timestamp",
            "type",
            "utcoffset",
            "uuid",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            (&started["type"], &started["clock"]),
            (&json!("task-started"), &json!(1))
        );
        assert_eq!(next()["exception"], "E()");
    }

    #[test]
    fn events_of_tasks_are_sent_when_they_are_wanted() {
        let events = Events::new("one@test", CeleryEvents::Worker);
        events.task("id", TaskEvent::Started {});
        assert_eq!(
            (events.set_tasks(true), events.set_tasks(true)),
            (Some(true), Some(false))
        );
        events.task("id", TaskEvent::Started {});
        assert_eq!(CAPACITY - events.waiting.capacity(), 1);
        assert_eq!(events.set_tasks(false), Some(true));
        assert!(!events.tasks());
        assert_eq!(
            Events::new("one@test", CeleryEvents::Off).set_tasks(true),
            None
        );
    }

    #[test]
    fn events_that_nobody_takes_do_not_pile_up() {
        let events = Events::new("one@test", CeleryEvents::Task);
        for _ in 0..=CAPACITY {
            events.task("id", TaskEvent::Started {});
        }
        assert_eq!(events.dropped.load(Ordering::Relaxed), 1);
    }
}
