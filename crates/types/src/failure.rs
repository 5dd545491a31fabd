//! Why a job could not be analysed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of a job that could not be analysed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable reason.
    pub reason: FailureReason,
    /// A sentence for people.
    pub detail: String,
}

impl Failure {
    /// This reason, with a sentence for people.
    pub fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// The stable reasons for which a job ends as failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FailureReason {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A reason that this version does not know; the detail says more.
            #[serde(rename = "other", other)]
            Other,
        }

        impl FailureReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)* Self::Other];

            /// The reason as it is written everywhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other => "other",
                }
            }

            /// The reason written so; [`FailureReason::Other`] for any that is not known.
            #[must_use]
            pub fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

reasons! {
    /// The bytes are no image of a format that can be analysed.
    UnsupportedFormat = "unsupported_format",
    /// The bytes begin like an image but can't be decoded.
    Corrupt = "corrupt",
    /// The image ends before its end.
    Truncated = "truncated",
    /// More pixels, longer sides or more memory than the limits allow.
    TooLarge = "too_large",
    /// The analysis took longer than the task's time limit.
    Timeout = "timeout",
    /// The analyzer broke down over this image.
    AnalyzerError = "analyzer_error",
    /// The server that accepted the image does not have it any more.
    ImageMissing = "image_missing",
    /// The bytes fetched are not those that were accepted.
    DigestMismatch = "digest_mismatch",
    /// Every attempt failed.
    RetriesExhausted = "retries_exhausted",
    /// Every worker that took it died of it.
    DeadLetter = "dead_letter",
    /// The task expired before a worker took it.
    Expired = "expired",
    /// Revoked by Celery's remote control.
    Revoked = "revoked",
    /// Cancelled by the client.
    Cancelled = "cancelled",
    /// The task's arguments make no sense.
    BadArguments = "bad_arguments",
    /// The job's id belongs to another image or owner.
    Conflict = "conflict",
    /// The job was deleted: how it ended is not known any more.
    Deleted = "deleted",
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_as_it_is_written() {
        for &reason in FailureReason::ALL {
            assert_eq!(FailureReason::from_text(reason.as_str()), reason);
        }
    }
}
