//! Image bytes made into an [`Analysis`]: pure functions, no I/O, nothing asynchronous.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@format`] | what the bytes are, told by content: a [`Format`], or the name of something else |
//! | `container` | each format's header and structure, read without decoding or allocating |
//! | [`mod@inspect`] | header → limits → completeness → (if asked) decoding: an [`Inspection`] |
//! | [`classify`] | the [`Classifier`] that gives the label, and [`Simulated`] |
//! | [`error`] | [`AnalysisError`], and the [`imgsys_types::FailureReason`] of each |
//!
//! The order in [`inspect`](inspect()) is what keeps hostile files harmless: no decoder sees bytes
//! whose header asks for more than the [`Limits`]. Decoders may still panic; whoever owns the
//! thread catches that.

pub mod classify;
mod container;
pub mod error;
pub mod format;
pub mod inspect;

pub use classify::{Classification, Classifier, Image, Simulated};
pub use error::AnalysisError;
pub use format::Format;
pub use inspect::{Depth, Inspection, Limits, inspect};

use imgsys_types::{Analysis, Digest};

/// Inspects the image and has the classifier label it. `sha256` is the digest of `bytes`; the
/// image is looked into as deep as `depth` says or the classifier needs, whichever is deeper.
pub fn analyze(
    bytes: &[u8],
    sha256: Digest,
    limits: &Limits,
    depth: Depth,
    classifier: &dyn Classifier,
) -> Result<Analysis, AnalysisError> {
    let inspection = inspect(bytes, limits, depth.max(classifier.depth()))?;
    let image = Image {
        sha256,
        inspection: &inspection,
    };
    let found = classifier.classify(&image)?;
    Ok(Analysis {
        analyzer: classifier.analyzer().clone(),
        label: found.label,
        confidence: found.confidence,
        scores: found.scores,
        properties: inspection.properties(),
    })
}
