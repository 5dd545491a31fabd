//! Celery's result of a task, as Python's Redis backend writes it.

use crate::{canvas::Followed, incoming::Kin};
use chrono::{DateTime, SecondsFormat, Utc};
use imgsys_types::{Failure, FailureReason, JobResult, Outcome, Timestamp};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// How long results are kept, if at all. Nothing of ours depends on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep(u32);

impl Keep {
    /// What is not a whole second is left off, but no time at all is only what is zero.
    pub(crate) fn new(time: Duration) -> Self {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self(seconds.max(u32::from(!time.is_zero())))
    }

    pub(crate) const fn seconds(self) -> u32 {
        self.0
    }

    /// The result, or nothing if none are kept.
    pub(crate) fn if_any(self, result: &str) -> &str {
        if self.0 == 0 { "" } else { result }
    }
}

/// What Celery calls a task that ran and failed.
const FAILURE: &str = "FAILURE";

/// The result of a task that ended so: what `AsyncResult(task_id).get()` returns or raises.
pub(crate) fn celery_result(task_id: &str, result: &JobResult) -> String {
    celery_result_of(task_id, result, &Kin::default(), &[])
}

/// The same, of a task that is related to others and has these children.
pub(crate) fn celery_result_of(
    task_id: &str,
    result: &JobResult,
    kin: &Kin,
    children: &[Value],
) -> String {
    let (status, value) = match &result.outcome {
        Outcome::Done(_) => ("SUCCESS", json!(result)),
        Outcome::Failed(failure) => failed(failure),
    };
    let mut meta = json!({
        "status": status,
        "result": value,
        "traceback": null,
        "children": children,
        "date_done": iso(result.finished_at),
        "task_id": task_id,
    });
    for (name, value) in [("group_id", &kin.group), ("parent_id", &kin.parent)] {
        if let Some(value) = value {
            meta[name] = value.as_str().into();
        }
    }
    meta.to_string()
}

/// What follows the end of a task, as with Python's workers.
pub(crate) fn follow(task_id: &str, result: &JobResult, kin: &Kin) -> Followed {
    let Some(canvas) = &kin.canvas else {
        return Followed::default();
    };
    let parent = kin.parent_of(task_id);
    match &result.outcome {
        Outcome::Done(_) => canvas.succeeded(parent, &json!(result)),
        Outcome::Failed(failure) => canvas.failed(parent, failed(failure).0 == FAILURE),
    }
}

/// Python makes an exception of this type with this message.
fn failed(failure: &Failure) -> (&'static str, Value) {
    let (status, kind, module) = match failure.reason {
        FailureReason::Cancelled | FailureReason::Revoked | FailureReason::Expired => {
            ("REVOKED", "TaskRevokedError", "celery.exceptions")
        }
        _ => (FAILURE, "AnalysisFailed", "imgsys"),
    };
    let exception = json!({
        "exc_type": kind,
        "exc_message": [failure.to_string()],
        "exc_module": module,
    });
    (status, exception)
}

/// A time as Python's `datetime.isoformat` writes it.
pub(crate) fn iso(time: Timestamp) -> String {
    DateTime::<Utc>::from(SystemTime::from(time)).to_rfc3339_opts(SecondsFormat::Micros, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_kept_for_whole_seconds() {
        let seconds = |time| Keep::new(time).seconds();
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(2900)), 2);
        assert_eq!(seconds(Duration::MAX), u32::MAX);
        assert_eq!(Keep::new(Duration::ZERO).if_any("x"), "");
    }
}
