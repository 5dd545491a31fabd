//! Image bytes made into an [`Analysis`]: pure functions, no I/O, nothing asynchronous.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@format`] | what the bytes are, told by content: a [`Format`], or the name of something else |
//! | `container` | each format's header and structure, read without decoding or allocating |
//! | [`mod@inspect`] | header → limits → completeness → decoding → measuring: an [`Inspection`] |
//! | `exif`, `clean` | what the camera wrote, made harmless |
//! | `decode`, `picture` | bytes → pixels → the small image that everything looks at |
//! | [`measure`] | what the small image shows: [`Looks`] |
//! | [`classify`] | the [`Classifier`] that gives the label, and [`Simulated`] |
//! | [`onnx`] | the classifier that runs a neural network: [`Onnx`] |
//! | [`error`] | [`AnalysisError`], and the [`imgsys_types::FailureReason`] of each |
//!
//! The order in [`inspect`](inspect()) is what keeps hostile files harmless: no decoder sees bytes
//! whose header asks for more than the [`Limits`]. Decoders may still panic; whoever owns the
//! thread catches that.

pub mod classify;
mod clean;
mod container;
mod decode;
pub mod error;
mod exif;
pub mod format;
pub mod inspect;
pub mod measure;
#[cfg(feature = "onnx")]
pub mod onnx;
mod picture;

pub use classify::{Classification, Classifier, Image, Simulated};
pub use container::ColorType;
pub use decode::Flaw;
pub use error::AnalysisError;
pub use format::Format;
pub use inspect::{Depth, Inspection, Limits, Options, inspect};
pub use measure::Looks;
#[cfg(feature = "onnx")]
pub use onnx::Onnx;
pub use picture::{ResizeError, View};

use imgsys_types::{Analysis, Digest};

/// Inspects the image and has the classifier label it. `sha256` is the digest of `bytes`; the
/// image is looked into as deep as the options say or the classifier needs, whichever is deeper.
pub fn analyze(
    bytes: &[u8],
    sha256: Digest,
    options: &Options,
    classifier: &dyn Classifier,
) -> Result<Analysis, AnalysisError> {
    let (inspection, view) = inspect::inspect_for(bytes, options, classifier.view())?;
    let image = Image {
        sha256,
        inspection: &inspection,
        view: view.as_ref(),
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
