//! What an analyzer found.

use crate::{
    Digest, Properties,
    bounds::{MAX_SCORES, MAX_TEXT, bound_percent, bound_text},
    text,
};
use serde::{Deserialize, Serialize};

/// What an analyzer found in an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Who says so.
    pub analyzer: Analyzer,
    /// The best label.
    #[serde(deserialize_with = "text::one")]
    pub label: String,
    /// How sure the analyzer is of it, in percent: 0 to 100.
    pub confidence: f64,
    /// The best labels with their confidence, best first; may be empty.
    #[serde(default)]
    pub scores: Vec<Score>,
    /// What can be said of the image without a classifier.
    pub properties: Properties,
}

impl Analysis {
    pub(crate) fn bound(&mut self) {
        bound_text(&mut self.analyzer.name, MAX_TEXT);
        bound_text(&mut self.analyzer.version, MAX_TEXT);
        bound_text(&mut self.label, MAX_TEXT);
        bound_percent(&mut self.confidence);
        self.scores.truncate(MAX_SCORES);
        for score in &mut self.scores {
            bound_text(&mut score.label, MAX_TEXT);
            bound_percent(&mut score.confidence);
        }
        self.properties.bound();
    }
}

/// An analyzer by name and version, so that a simulated result is never mistaken for a real one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analyzer {
    /// Its name, such as `simulated`.
    #[serde(deserialize_with = "text::one")]
    pub name: String,
    /// Its version.
    #[serde(deserialize_with = "text::one")]
    pub version: String,
    /// The SHA-256 of the model file, if it has one.
    #[serde(default)]
    pub model: Option<Digest>,
}

/// A label and how sure the analyzer is of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The label.
    #[serde(deserialize_with = "text::one")]
    pub label: String,
    /// In percent: 0 to 100.
    pub confidence: f64,
}
