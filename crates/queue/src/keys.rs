//! Every name that imgsys uses in Redis: no other module spells one out.
//!
//! Names that begin with `imgsys:` are ours. The others are Celery's and Kombu's, spelt as
//! Python spells them, so that programs written for Celery find what they look for. Before all of
//! them goes the prefix of the connection string: Kombu's `global_keyprefix`. [`Keys`] puts it
//! there, so that it can't be forgotten.

use crate::{AddressError, address::Address};
use imgsys_types::{JobId, ServerId};
use std::sync::Arc;
use uuid::fmt::Hyphenated;

/// The Celery queue, and the task that is put on it.
pub const QUEUE: &str = "imgsys";
/// The name of the task.
pub const TASK: &str = "imgsys.analyze";
/// The header with the XXH3 of the image, 128 bits.
pub(crate) const CHECKSUM: &str = "xxh3";
/// The consumer group by which persisters share [`Keys::events`].
pub const GROUP: &str = "persister";
/// In [`Keys::takeovers`]: the task runs alone in its worker, so its death would be the task's
/// fault.
pub const ALONE: &str = "alone";
/// What separates a queue from its priority step, and the parts of a binding.
pub const SEPARATOR: &str = "\u{6}\u{16}";
/// The priority steps of Kombu's lists, the most urgent first.
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// The server of tasks that no server sent; nothing is ever open there.
#[must_use]
pub fn no_server() -> ServerId {
    ServerId::from_bytes([0; 16])
}

/// The mark in [`Keys::open`] of a job whose run has not ended: `queued`, or `queued.N` for later
/// runs, so that a late copy of an earlier run can't end this one.
#[must_use]
pub fn queued(run: u32) -> String {
    if run == 0 {
        "queued".to_owned()
    } else {
        format!("queued.{run}")
    }
}

/// The run that such a mark is of; `None` if it is an entry's id.
pub(crate) fn queued_run(mark: &str) -> Option<u32> {
    match mark.strip_prefix("queued")? {
        "" => Some(0),
        later => later.strip_prefix('.')?.parse().ok(),
    }
}

/// The id of the Celery task that analyses this run of a job: the job's own id for the submission,
/// so that `AsyncResult(job)` and Flower find it; one derived from both for later runs.
#[must_use]
pub fn task_id(job: JobId, run: u32) -> String {
    if run == 0 {
        job.to_string()
    } else {
        format!("{job}.{run}")
    }
}

/// Celery's exchange for events.
pub(crate) const CELERY_EVENTS: &str = "celeryev";

/// What [`task_id`] made an id of.
pub(crate) fn run_of_task(id: &str) -> Option<(JobId, u32)> {
    match id.split_once('.') {
        None => Some((id.parse().ok()?, 0)),
        Some((job, run)) => Some((job.parse().ok()?, run.parse().ok()?)),
    }
}

/// Kombu's list for a queue at a priority, without a prefix: the steps are 0, 3, 6 and 9, and 0 is
/// read first.
fn priority_list(queue: &str, priority: u8) -> String {
    match priority {
        0..=2 => queue.to_owned(),
        3..=5 => format!("{queue}{SEPARATOR}3"),
        6..=8 => format!("{queue}{SEPARATOR}6"),
        _ => format!("{queue}{SEPARATOR}9"),
    }
}

/// The names of keys and channels in one Redis. Clones are cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: Arc<str>,
    results: Arc<str>,
    db: i64,
}

impl Keys {
    /// The names in this database with these prefixes: of everything but Celery's results, and of
    /// those.
    pub(crate) fn new(db: i64, prefix: &str, results: &str) -> Self {
        Self {
            prefix: prefix.into(),
            results: results.into(),
            db,
        }
    }

    /// The names in the Redis of this connection string.
    pub fn of(url: &str) -> Result<Self, AddressError> {
        Address::parse(url).map(|address| address.keys().clone())
    }

    fn named(&self, name: &str) -> String {
        [&self.prefix, name].concat()
    }

    fn of_server(&self, name: &str, server: ServerId) -> String {
        let mut id = [0; Hyphenated::LENGTH];
        let id = server.uuid().hyphenated().encode_lower(&mut id);
        [&self.prefix, name, id].concat()
    }

    /// The number of the database.
    #[must_use]
    pub fn db(&self) -> i64 {
        self.db
    }

    /// The stream of events: `accepted`, `finished`, `failed`.
    #[must_use]
    pub fn events(&self) -> String {
        self.named("imgsys:events")
    }

    /// Events that can't be written to the database: a stream, with the reason in each entry.
    #[must_use]
    pub fn bad_events(&self) -> String {
        self.named("imgsys:events:bad")
    }

    /// Dead letters: a list of JSON objects, newest first.
    #[must_use]
    pub fn dead(&self) -> String {
        self.named("imgsys:dead")
    }

    /// How often a task's holder died: a hash, task id → count, or [`ALONE`].
    #[must_use]
    pub fn takeovers(&self) -> String {
        self.named("imgsys:takeovers")
    }

    /// Analyses that are kept: a hash, image → JSON.
    #[must_use]
    pub fn analyses(&self) -> String {
        self.named("imgsys:analyses")
    }

    /// The fields of [`Keys::analyses`], newest first: a list.
    #[must_use]
    pub fn analyses_order(&self) -> String {
        self.named("imgsys:analyses:order")
    }

    /// When a worker last looked for what dead workers have left: a hash, `at` and `grace`.
    #[must_use]
    pub fn tended(&self) -> String {
        self.named("imgsys:tended")
    }

    /// The sorted set of workers that claim, by the time at which they were last seen.
    #[must_use]
    pub fn claims(&self) -> String {
        self.named("imgsys:claims")
    }

    /// The list to which a worker that waits moves a message of a queue and priority: claimed, but
    /// not leased yet.
    #[must_use]
    pub fn claim(&self, queue: &str, priority: u8, worker: &str) -> String {
        let list = priority_list(queue, priority);
        self.named(&format!("imgsys:claim:{list}:{worker}"))
    }

    /// The hash of a server's jobs that are not in the database yet: job → [`queued`], or the id
    /// of the entry in [`Keys::events`] that ended it.
    #[must_use]
    pub fn open(&self, server: ServerId) -> String {
        self.of_server("imgsys:open:", server)
    }

    /// The Pub/Sub channel on which workers tell a server how its jobs ended.
    #[must_use]
    pub fn results(&self, server: ServerId) -> String {
        self.of_server("imgsys:results:", server)
    }

    /// The Pub/Sub channel on which persisters tell a server which of its jobs are in the database.
    #[must_use]
    pub fn persisted(&self, server: ServerId) -> String {
        self.of_server("imgsys:persisted:", server)
    }

    /// Kombu's list for a queue at a priority.
    #[must_use]
    pub fn priority_list(&self, queue: &str, priority: u8) -> String {
        self.named(&priority_list(queue, priority))
    }

    /// The lists of our queue, the most urgent first.
    #[must_use]
    pub fn queue_lists(&self) -> [String; 4] {
        PRIORITY_STEPS.map(|step| self.priority_list(QUEUE, step))
    }

    /// Kombu's hash of messages that a worker holds: delivery tag → `[message, exchange, routing
    /// key]`.
    #[must_use]
    pub fn unacked(&self) -> String {
        self.named("unacked")
    }

    /// Kombu's sorted set of the same tags, by the time at which their lease was last renewed.
    #[must_use]
    pub fn unacked_index(&self) -> String {
        self.named("unacked_index")
    }

    /// The lock of our workers around taking over messages whose lease ran out. It only saves work,
    /// so it is not Kombu's (`unacked_mutex`): that one stays for five minutes if its holder is killed.
    #[must_use]
    pub fn tending(&self) -> String {
        self.named("imgsys:tending")
    }

    /// Celery's result of a task, and the channel on which it is told.
    #[must_use]
    pub fn task_result(&self, task_id: &str) -> String {
        [&self.results, "celery-task-meta-", task_id].concat()
    }

    /// The channel on which Celery's events of this kind, such as `worker.online`, are published.
    /// Kombu puts the number of the database into it, for channels belong to none.
    #[must_use]
    pub fn celery_events(&self, routing_key: &str) -> String {
        self.named(&format!("/{}.celeryev/{routing_key}", self.db))
    }

    /// The channel on which Celery's remote control commands are published.
    #[must_use]
    pub fn celery_control(&self) -> String {
        self.named(&format!("/{}.celery.pidbox", self.db))
    }

    /// Kombu's set of the lists that are bound to an exchange: routing key, pattern and list, with
    /// [`SEPARATOR`] between them.
    #[must_use]
    pub fn celery_bindings(&self, exchange: &str) -> String {
        self.named(&format!("_kombu.binding.{exchange}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_fall_into_four_lists() {
        let keys = Keys::new(0, "", "");
        assert_eq!(keys.priority_list("q", 0), "q");
        assert_eq!(keys.priority_list("q", 2), "q");
        assert_eq!(keys.priority_list("q", 5), "q\u{6}\u{16}3");
        assert_eq!(keys.priority_list("q", 8), "q\u{6}\u{16}6");
        assert_eq!(keys.priority_list("q", 9), "q\u{6}\u{16}9");
    }

    #[test]
    fn everything_bears_the_prefix() {
        let (server, job) = (no_server(), "0197f3a2");
        let keys = Keys::new(3, "site:", "res_");
        let all = [
            keys.events(),
            keys.bad_events(),
            keys.dead(),
            keys.takeovers(),
            keys.tended(),
            keys.analyses(),
            keys.analyses_order(),
            keys.claims(),
            keys.claim(QUEUE, 5, "w"),
            keys.open(server),
            keys.results(server),
            keys.persisted(server),
            keys.unacked(),
            keys.unacked_index(),
            keys.tending(),
            keys.celery_events("worker.online"),
            keys.celery_control(),
            keys.celery_bindings("reply.celery.pidbox"),
        ];
        for key in all.iter().chain(&keys.queue_lists()) {
            assert!(key.starts_with("site:"), "{key}");
            assert_eq!(key.matches("site:").count(), 1, "{key}");
        }
        assert_eq!(keys.task_result(job), "res_celery-task-meta-0197f3a2");
        assert_eq!(keys.celery_control(), "site:/3.celery.pidbox");
        assert_eq!(
            keys.celery_events("worker.online"),
            "site:/3.celeryev/worker.online"
        );
    }
}
