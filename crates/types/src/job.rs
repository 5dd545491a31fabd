//! A job: what was accepted, what became of it.

use crate::{
    Analysis, Checksum, Digest, Failure, JobId, Owner, PerceptualHash, ServerId, Timestamp,
    bounds::{MAX_DETAIL, MAX_TEXT, bound_text},
    text,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How urgent a job is: 0 (first) to 9 (last), Celery's priority on Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Priority(u8);

impl Priority {
    /// The last of the urgencies.
    pub const MAX: u8 = 9;

    /// This urgency, if it is 0 to 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX {
            Some(Self(level))
        } else {
            None
        }
    }

    /// 0 to 9.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// The middle, so that there is room on both sides.
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = &'static str;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        Self::new(level).ok_or("a priority is 0 (first) to 9 (last)")
    }
}

/// An accepted image: all that its row in the history needs to know of the submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The job's name, made by the client.
    pub id: JobId,
    /// Whose it is.
    pub owner: Owner,
    /// The SHA-256 of the image.
    pub sha256: Digest,
    /// The image's name as the client gave it, cleaned by [`crate::clean_name`].
    pub name: String,
    /// The image's size in bytes.
    pub size: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// When the server accepted it, by the server's clock; pages are in this order.
    pub submitted_at: Timestamp,
    /// The server that accepted it and keeps the file.
    pub server: ServerId,
}

/// A run of a job, as a server has accepted it: the submission, or one of the reanalyses after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The job, as it was submitted.
    pub job: Job,
    /// 0 is the submission; each reanalysis adds one.
    pub number: u32,
    /// How urgent this run is.
    pub priority: Priority,
    /// When this run was accepted, by the server's clock.
    pub accepted_at: Timestamp,
    /// That of the image's bytes, if they came with the job.
    pub checksum: Option<Checksum>,
}

impl Run {
    /// The first run of a job.
    #[must_use]
    pub const fn submission(job: Job) -> Self {
        Self {
            number: 0,
            priority: job.priority,
            accepted_at: job.submitted_at,
            checksum: None,
            job,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
// Nearly every outcome is `Done`: a box would cost each of them an allocation to spare the few.
#[allow(clippy::large_enum_variant)]
pub enum Outcome {
    /// It was analysed.
    Done(Analysis),
    /// It could not be analysed.
    Failed(Failure),
}

/// What became of a job, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// 0 is the submission; each reanalysis adds one.
    pub run: u32,
    /// The end itself.
    pub outcome: Outcome,
    /// The worker's node name; `None` if no worker had a part in it.
    #[serde(default, deserialize_with = "text::optional")]
    pub worker: Option<String>,
    /// How many times a worker took it up.
    pub attempts: u32,
    /// From acceptance to the start of the analysis, in microseconds.
    pub queued_us: u64,
    /// How long fetching and analysing took, in microseconds.
    pub analysis_us: u64,
    /// When it ended, by the worker's clock.
    pub finished_at: Timestamp,
}

/// A job and, once there is one, its newest result: a line of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What was accepted.
    pub job: Job,
    /// What became of it; `None` while it is queued.
    pub result: Option<JobResult>,
}

/// Where a job stands. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, without a result yet.
    Queued,
    /// Analysed.
    Done,
    /// Could not be analysed.
    Failed,
}

impl JobState {
    /// The state's name, as in SQL and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// The state of a job that ended so.
    #[must_use]
    pub const fn state(&self) -> JobState {
        match self {
            Self::Done(_) => JobState::Done,
            Self::Failed(_) => JobState::Failed,
        }
    }
}

impl JobRecord {
    /// The hash of the image, by its newest result.
    #[must_use]
    pub fn perceptual_hash(&self) -> Option<PerceptualHash> {
        match self.result.as_ref().map(|result| &result.outcome) {
            Some(Outcome::Done(analysis)) => analysis.properties.perceptual_hash,
            Some(Outcome::Failed(_)) | None => None,
        }
    }

    /// Where the job stands.
    #[must_use]
    pub fn state(&self) -> JobState {
        self.result
            .as_ref()
            .map_or(JobState::Queued, |result| result.outcome.state())
    }
}

impl JobResult {
    /// The result as it is kept: texts and lists of somebody else's worker within bounds, the
    /// confidence a percentage. Done where results come in, so that the answer and the row are the
    /// same and either fits into a frame.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Some(worker) = &mut self.worker {
            bound_text(worker, MAX_TEXT);
        }
        match &mut self.outcome {
            Outcome::Done(analysis) => analysis.bound(),
            Outcome::Failed(failure) => bound_text(&mut failure.detail, MAX_DETAIL),
        }
        self
    }

    /// The end of a job that no worker had a part in, at the present time.
    #[must_use]
    pub fn failed(run: u32, failure: Failure) -> Self {
        Self {
            run,
            outcome: Outcome::Failed(failure),
            worker: None,
            attempts: 0,
            queued_us: 0,
            analysis_us: 0,
            finished_at: Timestamp::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_ends_at_nine() {
        assert_eq!(Priority::new(9).map(Priority::get), Some(9));
        assert_eq!(Priority::new(10), None);
    }
}
