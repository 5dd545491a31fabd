//! The events by which the history comes to be: a job was accepted, finished, failed.
//!
//! An event is a [`JobRecord`]: without a result the job was accepted, with one it has ended. It
//! carries all that the job's row needs, so that the order in which events come does not matter.
//! Its entry in the stream [`crate::keys::Keys::events`] has two fields, [`EVENT`] and [`DATA`];
//! [`encode`] and [`decode`] are the only places that know their form. [`EventStream`] is the
//! stream as a persister sees it.

mod reply;
mod stream;
mod written;

pub use stream::{EventStream, StreamError};
pub(crate) use written::result as result_to_json;

use imgsys_types::{Failure, FailureReason, Job, JobRecord, JobResult, bound_name, clean_name};
use serde::Deserialize;
use std::fmt;

/// The field with the event's kind: `accepted`, `finished` or `failed`.
pub const EVENT: &str = "event";
/// The field with the [`JobRecord`] as JSON.
pub const DATA: &str = "data";

const ACCEPTED: &str = "accepted";
const FINISHED: &str = "finished";
const FAILED: &str = "failed";

/// The field that says that a client knows the event's result already: its value is then `1`.
pub const TOLD: &str = "told";

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the stream.
    pub id: String,
    /// The event.
    pub event: Result<JobRecord, BadEvent>,
    /// Whether the job's client knows its result already, so that no other result may stand.
    pub told: bool,
}

/// An entry that is no event, or one that the database refuses: what it says, and why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadEvent {
    /// Why it is bad.
    pub reason: String,
    /// The field [`DATA`] as it came.
    pub data: Vec<u8>,
    /// Whether its kind says that it ended a job.
    ended: bool,
}

/// What a bad event may still say.
#[derive(Deserialize)]
struct Told {
    job: Job,
    #[serde(default)]
    result: Option<ToldResult>,
}

#[derive(Deserialize)]
struct ToldResult {
    #[serde(default)]
    run: u32,
}

impl Entry {
    /// The end, as failed, of the job that this entry has ended, for when what it says can't be
    /// written. `None` if it has ended none, as far as can be told.
    #[must_use]
    pub fn end_instead(&self) -> Option<JobRecord> {
        // A server tells results apart by when they ended: by that it is the one that it knows.
        let mut finished_at = None;
        let (job, run) = match &self.event {
            Ok(JobRecord { job, result }) => {
                let result = result.as_ref()?;
                finished_at = Some(result.finished_at);
                (job.clone(), result.run)
            }
            Err(bad) if bad.ended => {
                let told: Told = serde_json::from_slice(&bad.data).ok()?;
                (told.job, told.result.map_or(0, |result| result.run))
            }
            Err(_) => return None,
        };
        let detail = "its result can't be written into the history: whoever runs the system finds it \
                      among the bad events";
        let failure = Failure::new(FailureReason::AnalyzerError, detail);
        let failed = JobResult::failed(run, failure);
        Some(JobRecord {
            job: Job {
                name: clean_name(&job.name),
                ..job
            },
            result: Some(JobResult {
                finished_at: finished_at.unwrap_or(failed.finished_at),
                ..failed
            }),
        })
    }
}

impl BadEvent {
    fn new(reason: impl fmt::Display, data: &[u8]) -> Self {
        Self {
            reason: reason.to_string(),
            data: data.to_vec(),
            ended: false,
        }
    }
}

/// The kind of this event.
#[must_use]
pub fn kind(record: &JobRecord) -> &'static str {
    use imgsys_types::Outcome::{Done, Failed};
    match record.result.as_ref().map(|result| &result.outcome) {
        None => ACCEPTED,
        Some(Done(_)) => FINISHED,
        Some(Failed(_)) => FAILED,
    }
}

/// The event's data.
pub fn to_json(record: &JobRecord) -> Result<String, serde_json::Error> {
    match &record.result {
        Some(result) => with_result(&record.job, &result_to_json(result)?),
        None => with_result(&record.job, "null"),
    }
}

/// The data of the event that a job has ended, with this result in JSON.
pub(crate) fn with_result(job: &Job, result: &str) -> Result<String, serde_json::Error> {
    let job = written::job(job)?;
    Ok([r#"{"job":"#, &job, r#","result":"#, result, "}"].concat())
}

/// The event with this data, its texts within bounds: it may come from a worker that is not ours.
pub fn from_json(data: &[u8]) -> Result<JobRecord, serde_json::Error> {
    // Whether it is UTF-8 is seen faster of the whole than of each text. What is not has an error
    // that says where.
    let record = match std::str::from_utf8(data) {
        Ok(text) => serde_json::from_str(text)?,
        Err(_) => serde_json::from_slice(data)?,
    };
    Ok(bounded(record))
}

/// The events that are published together, one after the other. What is no event ends them, and is
/// told.
pub(crate) fn several_from_json(data: &[u8]) -> (Vec<JobRecord>, Option<serde_json::Error>) {
    match std::str::from_utf8(data) {
        Ok(text) => several(serde_json::Deserializer::from_str(text).into_iter()),
        Err(_) => several(serde_json::Deserializer::from_slice(data).into_iter()),
    }
}

fn several(
    records: impl Iterator<Item = Result<JobRecord, serde_json::Error>>,
) -> (Vec<JobRecord>, Option<serde_json::Error>) {
    let mut several = Vec::new();
    for record in records {
        match record {
            Ok(record) => several.push(bounded(record)),
            Err(error) => return (several, Some(error)),
        }
    }
    (several, None)
}

fn bounded(mut record: JobRecord) -> JobRecord {
    bound_name(&mut record.job.name);
    record.result = record.result.map(JobResult::bounded);
    record
}

/// The fields of the event's entry, as XADD takes them. Fails as [`to_json`] does.
pub fn encode(record: &JobRecord) -> Result<[(&'static str, String); 2], serde_json::Error> {
    Ok([(EVENT, kind(record).to_owned()), (DATA, to_json(record)?)])
}

/// The event with these fields. Whether it finished or failed is told by its data; the kind only
/// has to be one that is known, and to agree on whether there is a result.
pub fn decode(kind: &[u8], data: &[u8]) -> Result<JobRecord, BadEvent> {
    let ends = kind == FINISHED.as_bytes() || kind == FAILED.as_bytes();
    let bad = |reason: fmt::Arguments<'_>| BadEvent {
        ended: ends,
        ..BadEvent::new(reason, data)
    };
    let record =
        from_json(data).map_err(|error| bad(format_args!("reading the event's data: {error}")))?;
    let ended = match kind {
        kind if kind == ACCEPTED.as_bytes() => false,
        _ if ends => true,
        other => {
            let other = String::from_utf8_lossy(other);
            let reason = format_args!("the event is of no known kind: {other:?}");
            return Err(BadEvent::new(reason, data));
        }
    };
    if ended == record.result.is_some() {
        Ok(record)
    } else {
        Err(bad(format_args!(
            "an accepted event has no result, any other has one"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_event_is_written_as_serde_does(record in arbitrary::job_record()) {
            prop_assert_eq!(to_json(&record).unwrap(), serde_json::to_string(&record).unwrap());
        }

        #[test]
        fn any_event_is_read_as_it_was_written(mut record in arbitrary::job_record()) {
            record.job.name = clean_name(&record.job.name);
            record.result = record.result.map(JobResult::bounded);
            let [(_, kind), (_, data)] = encode(&record).unwrap();
            prop_assert_eq!(decode(kind.as_bytes(), data.as_bytes()), Ok(record));
        }
    }

    #[test]
    fn what_is_no_event_keeps_its_data() {
        for (kind, data) in [("finished", "{"), ("accepted", "[]"), ("", "")] {
            let bad = decode(kind.as_bytes(), data.as_bytes()).unwrap_err();
            assert_eq!(bad.data, data.as_bytes());
        }
    }

    #[test]
    fn job_that_a_bad_event_ended_can_be_ended_another_way() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        runner
            .run(&arbitrary::job_record(), |record| {
                let ends = |event| {
                    let entry = Entry {
                        id: "1-0".into(),
                        event,
                        told: false,
                    };
                    entry.end_instead()
                };
                let json = to_json(&record).unwrap();
                let broken = json.replacen("\"outcome\":", "\"income\":", 1);
                let bad = decode(FINISHED.as_bytes(), broken.as_bytes()).unwrap_err();
                let told = [ends(Ok(record.clone())), ends(Err(bad))];
                for (place, told) in told.into_iter().enumerate() {
                    let Some(told) = told else {
                        prop_assert!(place == 0 && record.result.is_none());
                        continue;
                    };
                    prop_assert_eq!(told.job.id, record.job.id);
                    let run = record.result.as_ref().map_or(0, |result| result.run);
                    prop_assert_eq!(told.result.unwrap().run, run);
                }
                let bad = decode(ACCEPTED.as_bytes(), broken.as_bytes());
                prop_assert!(bad.err().is_none_or(|bad| ends(Err(bad)).is_none()));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn kind_and_result_agree() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        runner
            .run(&arbitrary::job_record(), |record| {
                let data = to_json(&record).unwrap();
                let wrong = if record.result.is_some() {
                    ACCEPTED
                } else {
                    FINISHED
                };
                prop_assert!(decode(wrong.as_bytes(), data.as_bytes()).is_err());
                prop_assert!(decode(b"exploded", data.as_bytes()).is_err());
                Ok(())
            })
            .unwrap();
    }
}
