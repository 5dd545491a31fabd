//! Rust values as PostgreSQL can hold them, and back.
//!
//! Everything that a record can hold is made storable here, so that no value keeps a job out of
//! the history: U+0000, for which PostgreSQL has no place, becomes U+FFFD; numbers and times that
//! are out of its range become the nearest that is in it.

use imgsys_types::{
    Analysis, Analyzer, Digest, Failure, FailureReason, Job, JobRecord, JobResult, JobState,
    Outcome, PerceptualHash, Priority, Properties, Score, Timestamp,
};
use postgres_types::{Json, ToSql};
use std::{borrow::Cow, time::SystemTime};
use tokio_postgres::Row;
use uuid::Uuid;

/// The type `job_state` of the schema, for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSql)]
#[postgres(name = "job_state", rename_all = "snake_case")]
pub(crate) enum State {
    Queued,
    Done,
    Failed,
}

impl From<JobState> for State {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Done => Self::Done,
            JobState::Failed => Self::Failed,
        }
    }
}

/// The earliest time of PostgreSQL, 4714-11-24 BC, in microseconds since 1970. Its latest lies
/// beyond what 64 bits of microseconds can say.
pub(crate) const EARLIEST: i64 = -209_920_118_400_000_000;

pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

pub(crate) fn time(time: Timestamp) -> SystemTime {
    Timestamp::from_micros(time.as_micros().max(EARLIEST)).into()
}

/// A hash as PostgreSQL's bigint, which has a sign.
pub(crate) fn bits(hash: PerceptualHash) -> i64 {
    hash.bits().cast_signed()
}

/// The 16 bits of a hash that an index of its own is over, the lowest first.
pub(crate) fn band(hash: PerceptualHash, number: u32) -> u16 {
    let [low, high, ..] = hash.bits().rotate_right(16 * number).to_le_bytes();
    u16::from_le_bytes([low, high])
}

pub(crate) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn scores(scores: &[Score]) -> Cow<'_, [Score]> {
    if !scores.iter().any(|score| score.label.contains('\0')) {
        return Cow::Borrowed(scores);
    }
    let clean = |score: &Score| Score {
        label: text(&score.label).into_owned(),
        confidence: score.confidence,
    };
    Cow::Owned(scores.iter().map(clean).collect())
}

pub(crate) fn properties(properties: &Properties) -> Cow<'_, Properties> {
    let mut texts = properties
        .texts()
        .chain(properties.extra.keys().map(|key| &**key));
    if !texts.any(|text| text.contains('\0')) {
        return Cow::Borrowed(properties);
    }
    let mut clean = properties.clone();
    clean.change_texts(|dirty| *dirty = text(dirty).into_owned());
    Cow::Owned(clean)
}

/// Why a row is no record: somebody else wrote it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// A column is not there or of another type: the schema is not the one expected.
    #[error(transparent)]
    Column(#[from] tokio_postgres::Error),
    /// A value that no program of ours writes.
    #[error("job {id} has a {column} that makes no sense")]
    Value { id: Uuid, column: &'static str },
}

/// The columns that [`record`] reads, of `jobs j` and the newest of its `predictions p`.
///
/// The state is read as text: `query_typed` looks the type of a column up only when rows are
/// already on their way, and if those are many it waits for them and they for it.
pub(crate) const COLUMNS: &str = "j.id, j.owner, j.sha256, j.name, j.bytes, j.priority, \
     j.submitted_at, j.server, j.run, p.state::text, p.analyzer, p.analyzer_version, p.model, p.label, \
     p.confidence, p.scores, p.properties, p.reason, p.detail, p.worker, p.attempts, \
     p.queued_us, p.analysis_us, p.finished_at";

/// A job and its newest result.
pub(crate) fn record(row: &Row) -> Result<JobRecord, RowError> {
    let id: Uuid = row.try_get("id")?;
    let bad = |column| RowError::Value { id, column };
    let bytes: i64 = row.try_get("bytes")?;
    let priority: i16 = row.try_get("priority")?;
    let submitted_at: SystemTime = row.try_get("submitted_at")?;
    let job = Job {
        id: id.into(),
        owner: row
            .try_get::<_, &str>("owner")?
            .parse()
            .map_err(|_| bad("owner"))?,
        sha256: digest(row.try_get("sha256")?).ok_or_else(|| bad("sha256"))?,
        name: row.try_get("name")?,
        size: u64::try_from(bytes).map_err(|_| bad("bytes"))?,
        priority: u8::try_from(priority)
            .ok()
            .and_then(Priority::new)
            .ok_or_else(|| bad("priority"))?,
        submitted_at: submitted_at.into(),
        server: row.try_get::<_, Uuid>("server")?.into(),
    };
    let run: Option<i64> = row.try_get("run")?;
    let result = run.map(|run| result(row, id, run)).transpose()?;
    Ok(JobRecord { job, result })
}

/// The same of a row that has a column `deleted`. Of a deleted job that has ended nothing is told but
/// that.
pub(crate) fn standing(row: &Row) -> Result<JobRecord, RowError> {
    let mut record = record(row)?;
    if row.try_get("deleted")? {
        record.result = record.result.map(|result| JobResult {
            finished_at: result.finished_at,
            ..JobResult::failed(
                result.run,
                Failure::new(FailureReason::Deleted, "the job was deleted"),
            )
        });
    }
    Ok(record)
}

fn result(row: &Row, id: Uuid, run: i64) -> Result<JobResult, RowError> {
    let bad = |column| RowError::Value { id, column };
    // A job with a run but without its prediction has null here.
    let outcome = match row.try_get("state")? {
        Some("done") => Outcome::Done(analysis(row, id)?),
        Some("failed") => Outcome::Failed(Failure {
            reason: FailureReason::from_text(row.try_get("reason")?),
            detail: row.try_get("detail")?,
        }),
        Some(_) => return Err(bad("state")),
        None => return Err(bad("run")),
    };
    let number = |column| -> Result<i64, RowError> { Ok(row.try_get(column)?) };
    let finished_at: SystemTime = row.try_get("finished_at")?;
    Ok(JobResult {
        run: u32::try_from(run).map_err(|_| bad("run"))?,
        outcome,
        worker: row.try_get("worker")?,
        attempts: u32::try_from(number("attempts")?).map_err(|_| bad("attempts"))?,
        queued_us: u64::try_from(number("queued_us")?).map_err(|_| bad("queued_us"))?,
        analysis_us: u64::try_from(number("analysis_us")?).map_err(|_| bad("analysis_us"))?,
        finished_at: finished_at.into(),
    })
}

fn analysis(row: &Row, id: Uuid) -> Result<Analysis, RowError> {
    let bad = |column| RowError::Value { id, column };
    let model: Option<&[u8]> = row.try_get("model")?;
    let model = model
        .map(|bytes| digest(bytes).ok_or_else(|| bad("model")))
        .transpose()?;
    Ok(Analysis {
        analyzer: Analyzer {
            name: row.try_get("analyzer")?,
            version: row.try_get("analyzer_version")?,
            model,
        },
        label: row.try_get("label")?,
        confidence: row.try_get("confidence")?,
        scores: row.try_get::<_, Json<_>>("scores")?.0,
        properties: row.try_get::<_, Json<_>>("properties")?.0,
    })
}

fn digest(bytes: &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}
