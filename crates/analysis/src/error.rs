//! Why an image could not be analysed.

use crate::{Format, picture::ResizeError};
use imgsys_types::{Failure, FailureReason};
use std::borrow::Cow;

/// Why an image could not be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// Something else than an image of a known format.
    #[error("{content} can't be analysed, only images: {}", Format::NAMES)]
    NoImage {
        /// What it is, as far as it can be told, such as `a PDF document`.
        content: &'static str,
    },
    /// A kind of a known format that no decoder here understands.
    #[error("this kind of {format} can't be decoded: {detail}")]
    UnsupportedKind {
        /// The format.
        format: Format,
        /// Which kind it is.
        detail: Cow<'static, str>,
    },
    /// The bytes end before the image does.
    #[error("the {format} file is cut off: {detail}")]
    Truncated {
        /// The format.
        format: Format,
        /// What is missing.
        detail: Cow<'static, str>,
    },
    /// The file's structure makes no sense.
    #[error("the {format} file is damaged: {detail}")]
    Corrupt {
        /// The format.
        format: Format,
        /// What is wrong.
        detail: Cow<'static, str>,
    },
    /// The decoder found that the pixels' data makes no sense.
    #[error("decoding the {format} file: {source}")]
    Undecodable {
        /// The format.
        format: Format,
        /// The decoder's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The picture could not be shrunk.
    #[error(transparent)]
    Resize(#[from] ResizeError),
    /// A side over the limit.
    #[error("{width} x {height} pixels: no side may be longer than {limit}")]
    SideTooLong {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// More pixels than the limit.
    #[error("{width} x {height} pixels: at most {limit} pixels are allowed")]
    TooManyPixels {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// Decoding would take more memory than the limit.
    #[error("decoding {width} x {height} pixels takes more than the {limit} bytes allowed")]
    TooMuchMemory {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The classifier could not make anything of the image.
    #[error("classifying with {analyzer}: {detail}")]
    Classifier {
        /// The classifier's name.
        analyzer: String,
        /// What went wrong.
        detail: String,
    },
}

impl AnalysisError {
    /// The stable reason that the job's end bears.
    #[must_use]
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::NoImage { .. } | Self::UnsupportedKind { .. } => FailureReason::UnsupportedFormat,
            Self::Truncated { .. } => FailureReason::Truncated,
            Self::Corrupt { .. } | Self::Undecodable { .. } => FailureReason::Corrupt,
            Self::SideTooLong { .. } | Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } => {
                FailureReason::TooLarge
            }
            Self::Resize(_) | Self::Classifier { .. } => FailureReason::AnalyzerError,
        }
    }
}

impl From<AnalysisError> for Failure {
    fn from(error: AnalysisError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}
