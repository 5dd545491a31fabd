//! A classifier that runs a neural network: any classifier of images in ONNX, through tract.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | how the model wants to see an image: [`Settings`] |
//! | `network` | the model, loaded, checked and optimised once |
//!
//! One [`Onnx`] serves all threads: the plan is shared, each run has its own state.

mod network;
mod settings;

pub use network::ModelError;
pub use settings::{Layout, Resize, Settings};

use crate::{AnalysisError, Classification, Classifier, Image, View, clean::clean};
use image::RgbImage;
use imgsys_types::{Analyzer, Digest, Score};
use network::Network;
use sha2::{Digest as _, Sha256};

/// The label of what is below the least confidence.
pub const UNKNOWN: &str = "unknown";

/// What this module makes of the same model, settings and labels; to be raised when that changes.
const VERSION: &str = "1";

/// A classifier that runs a neural network.
#[derive(Debug)]
pub struct Onnx {
    analyzer: Analyzer,
    settings: Settings,
    labels: Vec<String>,
    network: Network,
}

impl Onnx {
    /// Loads a model from the bytes of its file, and its labels, one a line, in the order of its
    /// outputs. Everything that can be wrong with them is found here.
    pub fn new(model: &[u8], labels: &str, settings: Settings) -> Result<Self, ModelError> {
        settings.check()?;
        let labels: Vec<String> = labels.trim_end().lines().map(clean).collect();
        if let Some(index) = labels.iter().position(String::is_empty) {
            return Err(ModelError::EmptyLabel { line: index + 1 });
        }
        let network = Network::load(model, &settings, labels.len())?;
        let analyzer = Analyzer {
            name: settings.name.clone(),
            version: version(&settings, &labels),
            model: Some(Digest::from_bytes(Sha256::digest(model).into())),
        };
        Ok(Self {
            analyzer,
            settings,
            labels,
            network,
        })
    }

    /// How sure the model is of each label, in their order: 0 to 1. `view` is what
    /// [`Classifier::view`] asks for.
    pub fn probabilities(&self, view: &RgbImage) -> Result<Vec<f32>, ModelError> {
        self.network.run(&self.settings.input(view))
    }
}

/// Settings and labels change results, so they are part of the version.
fn version(settings: &Settings, labels: &[String]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{settings:?}"));
    for label in labels {
        hash.update(label);
        hash.update("\n");
    }
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, ..] = hash;
    format!("{VERSION}+{a:02x}{b:02x}{c:02x}{d:02x}")
}

impl Classifier for Onnx {
    fn analyzer(&self) -> &Analyzer {
        &self.analyzer
    }

    fn view(&self) -> Option<View> {
        Some(self.settings.view())
    }

    fn classify(&self, image: &Image<'_>) -> Result<Classification, AnalysisError> {
        let failed = |detail: String| AnalysisError::Classifier {
            analyzer: self.analyzer.name.clone(),
            detail,
        };
        let view = image
            .view
            .ok_or_else(|| failed("there is no picture".into()))?;
        let probabilities = self
            .probabilities(view)
            .map_err(|error| failed(error.to_string()))?;
        let mut scores: Vec<Score> = self
            .labels
            .iter()
            .zip(probabilities)
            .map(|(label, probability)| Score {
                label: label.clone(),
                confidence: percent(probability),
            })
            .collect();
        // A stable sort: of equals, the first label goes first.
        scores.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let least = self.settings.min_confidence;
        let best = scores.first().map_or(0.0, |score| score.confidence);
        scores.retain(|score| score.confidence >= least);
        let label = scores
            .first()
            .map_or(UNKNOWN, |score| &score.label)
            .to_owned();
        scores.truncate(self.settings.top_k);
        Ok(Classification {
            label,
            confidence: best,
            scores,
        })
    }
}

/// A probability as percent with four decimals, more than the model's own numbers are worth.
fn percent(probability: f32) -> f64 {
    let percent = f64::from(probability).clamp(0.0, 1.0) * 100.0;
    (percent * 10_000.0).round() / 10_000.0
}
