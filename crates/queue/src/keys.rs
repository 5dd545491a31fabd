//! Every name that imgsys uses in Redis: no other module spells one out.
//!
//! Names that begin with `imgsys:` are ours. The others are Celery's and Kombu's, spelt as
//! Python spells them, so that programs written for Celery find what they look for.

use imgsys_types::{JobId, ServerId};

/// The Celery queue, and the task that is put on it.
pub const QUEUE: &str = "imgsys";
/// The name of the task.
pub const TASK: &str = "imgsys.analyze";

/// The stream of events: `accepted`, `finished`, `failed`.
pub const EVENTS: &str = "imgsys:events";
/// The consumer group by which persisters share [`EVENTS`].
pub const GROUP: &str = "persister";
/// Events that can't be written to the database: a stream, with the reason in each entry.
pub const BAD_EVENTS: &str = "imgsys:events:bad";
/// Dead letters: a list of JSON objects, newest first.
pub const DEAD: &str = "imgsys:dead";
/// How often a task's holder died: a hash, task id → count, or [`ALONE`].
pub const TAKEOVERS: &str = "imgsys:takeovers";
/// In [`TAKEOVERS`]: the task runs alone in its worker, so its death would be the task's fault.
pub const ALONE: &str = "alone";
/// When a worker last looked for what dead workers have left: a hash, `at` and `grace`.
pub const TENDED: &str = "imgsys:tended";

/// Kombu's hash of messages that a worker holds: delivery tag → `[message, exchange, routing key]`.
pub const UNACKED: &str = "unacked";
/// Kombu's sorted set of the same tags, by the time at which their lease was last renewed.
pub const UNACKED_INDEX: &str = "unacked_index";
/// Kombu's lock around restoring messages whose lease ran out.
pub const UNACKED_MUTEX: &str = "unacked_mutex";
/// What separates a queue from its priority step, and the parts of a binding.
pub const SEPARATOR: &str = "\u{6}\u{16}";

/// The hash of a server's jobs that are not in the database yet: job → [`queued`], or the id of the
/// entry in [`EVENTS`] that ended it.
#[must_use]
pub fn open(server: ServerId) -> String {
    format!("imgsys:open:{server}")
}

/// The server of tasks that no server sent; nothing is ever open there.
#[must_use]
pub fn no_server() -> ServerId {
    ServerId::from_bytes([0; 16])
}

/// The mark in [`open`] of a job whose run has not ended: `queued`, or `queued.N` for later runs,
/// so that a late copy of an earlier run can't end this one.
#[must_use]
pub fn queued(run: u32) -> String {
    if run == 0 {
        "queued".to_owned()
    } else {
        format!("queued.{run}")
    }
}

/// The Pub/Sub channel on which workers tell a server how its jobs ended.
#[must_use]
pub fn results(server: ServerId) -> String {
    format!("imgsys:results:{server}")
}

/// The Pub/Sub channel on which persisters tell a server which of its jobs are in the database.
#[must_use]
pub fn persisted(server: ServerId) -> String {
    format!("imgsys:persisted:{server}")
}

/// The list to which a worker that waits moves a message: claimed, but not leased yet.
#[must_use]
pub fn claim(list: &str, worker: &str) -> String {
    format!("imgsys:claim:{list}:{worker}")
}

/// The sorted set of claim lists, by the time at which their worker was last seen.
pub const CLAIMS: &str = "imgsys:claims";

/// Celery's result of a task, and the channel on which it is told.
#[must_use]
pub fn task_result(task_id: &str) -> String {
    format!("celery-task-meta-{task_id}")
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

/// The priority steps of Kombu's lists, the most urgent first.
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// Kombu's list for a queue at a priority: the steps are 0, 3, 6 and 9, and 0 is read first.
#[must_use]
pub fn priority_list(queue: &str, priority: u8) -> String {
    match priority {
        0..=2 => queue.to_owned(),
        3..=5 => format!("{queue}{SEPARATOR}3"),
        6..=8 => format!("{queue}{SEPARATOR}6"),
        _ => format!("{queue}{SEPARATOR}9"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_fall_into_four_lists() {
        assert_eq!(priority_list("q", 0), "q");
        assert_eq!(priority_list("q", 2), "q");
        assert_eq!(priority_list("q", 5), "q\u{6}\u{16}3");
        assert_eq!(priority_list("q", 8), "q\u{6}\u{16}6");
        assert_eq!(priority_list("q", 9), "q\u{6}\u{16}9");
    }
}
