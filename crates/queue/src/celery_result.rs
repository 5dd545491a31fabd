//! Celery's result of a task, as Python's Redis backend writes it.

use crate::{canvas::Followed, events, incoming::Kin, json::Json};
use chrono::{DateTime, SecondsFormat, Utc};
use imgsys_types::{Failure, FailureReason, JobResult, Outcome, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

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
pub(crate) fn celery_result(
    task_id: &str,
    result: &JobResult,
) -> Result<String, serde_json::Error> {
    let json = events::result_to_json(result)?;
    celery_result_of(task_id, result, &json, &Kin::default(), &[])
}

/// The same, of a task that is related to others and has these children. Of the result the JSON is
/// given, for it is written elsewhere, too.
pub(crate) fn celery_result_of(
    task_id: &str,
    result: &JobResult,
    json: &str,
    kin: &Kin,
    children: &[Value],
) -> Result<String, serde_json::Error> {
    let mut out = Json::with_capacity(json.len() + 512);
    match &result.outcome {
        Outcome::Done(_) => out.raw(r#"{"status":"SUCCESS","result":"#).raw(json),
        Outcome::Failed(failure) => {
            let (status, exception) = failed(failure);
            out.raw(r#"{"status":"#).quote(status);
            out.raw(r#","result":"#).show(exception)
        }
    };
    out.raw(r#","traceback":null,"children":["#);
    for (index, child) in children.iter().enumerate() {
        out.raw(if index > 0 { "," } else { "" }).show(child);
    }
    out.raw(r#"],"date_done":"#).quote(iso(result.finished_at));
    out.raw(r#","task_id":"#).text(task_id);
    if let Some(group) = &kin.group {
        out.raw(r#","group_id":"#).text(group);
    }
    if let Some(parent) = &kin.parent {
        out.raw(r#","parent_id":"#).text(parent);
    }
    out.raw("}");
    out.finish()
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

/// A time as Python's `datetime.isoformat` writes it; the last one there is if it is beyond all
/// calendars.
pub(crate) fn iso(time: Timestamp) -> String {
    let date = DateTime::from_timestamp_micros(time.as_micros());
    date.unwrap_or(DateTime::<Utc>::MAX_UTC)
        .to_rfc3339_opts(SecondsFormat::Micros, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_result_is_what_the_norm_says(
            result in arbitrary::job_result(),
            id in "\\PC*",
            group in prop::option::of("\\PC*"),
            parent in prop::option::of("\\PC*"),
            children in 0..3_usize,
        ) {
            let kin = Kin {
                group: group.clone(),
                parent: parent.clone(),
                ..Kin::default()
            };
            let children = vec![json!([["a\"b", null], null]); children];
            let json = events::result_to_json(&result).unwrap();
            let written = celery_result_of(&id, &result, &json, &kin, &children).unwrap();
            let (status, value) = match &result.outcome {
                Outcome::Done(_) => ("SUCCESS", json!(result)),
                Outcome::Failed(failure) => failed(failure),
            };
            let mut expected = json!({
                "status": status,
                "result": value,
                "traceback": null,
                "children": children,
                "date_done": iso(result.finished_at),
                "task_id": id,
            });
            if let Some(group) = group {
                expected["group_id"] = group.into();
            }
            if let Some(parent) = parent {
                expected["parent_id"] = parent.into();
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), expected);
        }
    }

    #[test]
    fn time_beyond_the_calendar_is_no_panic() {
        let time = |micros| iso(Timestamp::from_micros(micros));
        assert_eq!(time(0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(time(i64::MAX), time(i64::MIN));
    }

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
