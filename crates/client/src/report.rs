//! What became of a file or job: what `send` and `wait` tell, one report each.

use imgsys_types::{Digest, JobId, JobResult, Timestamp};
use std::time::Duration;

/// Why a file was not analysed, where neither the server nor a worker had a word in it.
///
/// Reasons are stable texts for programs; those of servers are `ErrorCode`s and those of workers
/// `FailureReason`s, written the same way.
pub(crate) mod reason {
    /// There is nothing under that path.
    pub(crate) const NOT_FOUND: &str = "not_found";
    /// The file or directory can't be read.
    pub(crate) const UNREADABLE: &str = "unreadable";
    /// The path is a device, a socket or a pipe.
    pub(crate) const NOT_A_FILE: &str = "not_a_file";
    /// The directory has no file that looks like an image.
    pub(crate) const NO_IMAGES: &str = "no_images";
    /// The file was written to while it was being sent.
    pub(crate) const CHANGED: &str = "changed";
    /// The server could not be reached long enough.
    pub(crate) const UNREACHABLE: &str = "unreachable";
    /// `--timeout` was over first.
    pub(crate) const TIMED_OUT: &str = "timed_out";
    /// The user interrupted the program.
    pub(crate) const INTERRUPTED: &str = "interrupted";
}

/// What became of a file or job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    /// The job; absent if nothing was handed to a server.
    pub(crate) job: Option<JobId>,
    /// The file's path as it was given; absent if only the job is known.
    pub(crate) name: Option<String>,
    /// The file's size in bytes.
    pub(crate) size: Option<u64>,
    /// The SHA-256 of the file.
    pub(crate) sha256: Option<Digest>,
    /// Whether the server had the image already; absent if it did not say.
    pub(crate) duplicate: Option<bool>,
    /// When the server accepted it.
    pub(crate) submitted_at: Option<Timestamp>,
    /// From taking up the file to this report.
    pub(crate) elapsed: Duration,
    /// The end itself.
    pub(crate) end: End,
}

/// How the story of a file ended, as far as this program followed it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// The job has ended.
    Answered(Box<JobResult>),
    /// The server has it and nobody wanted to wait.
    Accepted,
    /// The server has it, but the answer was not waited for to the end.
    Pending(String),
    /// It was not accepted.
    Failed {
        /// The stable reason.
        reason: &'static str,
        /// A sentence for people.
        detail: String,
    },
}

impl Report {
    /// The report of a file that no server has heard of.
    pub(crate) fn local(name: String, reason: &'static str, detail: String) -> Self {
        Self {
            job: None,
            name: Some(name),
            size: None,
            sha256: None,
            duplicate: None,
            submitted_at: None,
            elapsed: Duration::ZERO,
            end: End::Failed { reason, detail },
        }
    }
}
