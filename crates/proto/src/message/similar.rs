//! Images that look alike.

use imgsys_types::{Digest, JobId, JobRecord, PerceptualHash};
use serde::{Deserialize, Serialize};

/// Asks for the owner's images that look like one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimilarRequest {
    /// The request's number.
    pub req: u64,
    /// The job whose image it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_job: Option<JobId>,
    /// In place of the job, the SHA-256 of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_image: Option<Digest>,
    /// How many of the 64 bits may differ, at most [`PerceptualHash::MAX_DISTANCE`].
    #[serde(default = "alike")]
    pub distance: u32,
    /// Jobs in the answer, at most; the server's own limit of a page holds too.
    pub limit: u32,
}

const fn alike() -> u32 {
    PerceptualHash::ALIKE
}

/// Jobs whose images look alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Similar {
    /// The request's number.
    pub req: u64,
    /// The job that was asked about, or the newest with the digest that was asked about.
    pub job: JobId,
    /// The SHA-256 of its image.
    pub sha256: Digest,
    /// The hash of its image.
    pub perceptual_hash: PerceptualHash,
    /// The other jobs, the most alike first, and among equals the newest.
    pub jobs: Vec<SimilarJob>,
    /// Whether there are more.
    #[serde(default)]
    pub more: bool,
}

/// A job whose image looks like another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilarJob {
    /// How many bits of the hashes differ.
    pub distance: u32,
    /// The job.
    pub record: JobRecord,
}
