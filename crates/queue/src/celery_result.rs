//! Celery's result of a task, as Python's Redis backend writes it.

use chrono::{DateTime, SecondsFormat, Utc};
use imgsys_types::{Failure, FailureReason, JobResult, Outcome, Timestamp};
use serde_json::{Value, json};
use std::time::SystemTime;

/// How long a result is kept, in seconds. Nothing of ours depends on it.
pub(crate) const KEEP_SECONDS: u32 = 600;

/// The result of a task that ended so: what `AsyncResult(task_id).get()` returns or raises.
pub(crate) fn celery_result(task_id: &str, result: &JobResult) -> String {
    let (status, value) = match &result.outcome {
        Outcome::Done(_) => ("SUCCESS", json!(result)),
        Outcome::Failed(failure) => failed(failure),
    };
    json!({
        "status": status,
        "result": value,
        "traceback": null,
        "children": [],
        "date_done": iso(result.finished_at),
        "task_id": task_id,
    })
    .to_string()
}

/// Python makes an exception of this type with this message.
fn failed(failure: &Failure) -> (&'static str, Value) {
    let (status, kind, module) = match failure.reason {
        FailureReason::Cancelled | FailureReason::Revoked => {
            ("REVOKED", "TaskRevokedError", "celery.exceptions")
        }
        _ => ("FAILURE", "AnalysisFailed", "imgsys"),
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
