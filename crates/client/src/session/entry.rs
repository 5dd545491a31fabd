//! A job on its way, as the session keeps it.

use crate::{
    backoff::Backoff,
    files::Found,
    report::{End, Report},
};
use bytes::Bytes;
use imgsys_types::{Digest, JobId, JobResult, Timestamp};
use std::time::Instant;

/// How far a job has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// To be hashed.
    Hash,
    /// Being hashed.
    Hashing,
    /// The server is to be asked whether it needs the bytes.
    Ask,
    /// The server was asked.
    Asking,
    /// The bytes are on their way, or there and not accepted yet.
    Sending,
    /// Refused for now: to be tried again at this time.
    Later(Instant),
    /// Accepted; this connection is to be asked for its result.
    Watch,
    /// Accepted; its result will come on this connection.
    Watching,
    /// Ended; the server is to be asked for its name.
    Name(Box<JobResult>),
    /// Ended; the server was asked for its name.
    Naming(Box<JobResult>),
}

/// A job on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The file; `None` for a job that is only waited for.
    pub(super) file: Option<Found>,
    pub(super) sha256: Option<Digest>,
    /// The bytes of a small file, until it is accepted.
    pub(super) kept: Option<Bytes>,
    pub(super) stage: Stage,
    /// Whether a server may have heard of it.
    pub(super) submitted: bool,
    /// Whether a server has promised to keep it.
    pub(super) accepted: bool,
    pub(super) duplicate: Option<bool>,
    pub(super) submitted_at: Option<Timestamp>,
    pub(super) began: Instant,
    /// How often the connection broke while its bytes were on their way.
    pub(super) cuts: u32,
    /// Since when the server refuses it for now.
    pub(super) refused_since: Option<Instant>,
    pub(super) backoff: Backoff,
}

impl Entry {
    pub(super) fn file(file: Found, now: Instant) -> Self {
        Self {
            file: Some(file),
            sha256: None,
            kept: None,
            stage: Stage::Hash,
            submitted: false,
            accepted: false,
            duplicate: None,
            submitted_at: None,
            began: now,
            cuts: 0,
            refused_since: None,
            backoff: Backoff::request(),
        }
    }

    /// A job that another call has sent.
    pub(super) fn job(now: Instant) -> Self {
        Self {
            file: None,
            stage: Stage::Watch,
            submitted: true,
            accepted: true,
            ..Self::file(Found::default(), now)
        }
    }

    /// Whether the job counts against the number of submits in flight.
    pub(super) fn in_flight(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Sending)
    }

    /// The end of the job's story.
    pub(super) fn into_report(self, job: JobId, end: End, now: Instant) -> Report {
        Report {
            job: self.submitted.then_some(job),
            size: self.file.as_ref().map(|file| file.size),
            name: self.file.map(|file| file.name),
            sha256: self.sha256,
            duplicate: self.duplicate,
            submitted_at: self.submitted_at,
            elapsed: now.saturating_duration_since(self.began),
            end,
        }
    }
}
