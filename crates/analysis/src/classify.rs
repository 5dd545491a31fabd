//! Classifiers: what gives an image its label.

use crate::{AnalysisError, Inspection, View};
use image::RgbImage;
use imgsys_types::{Analyzer, Digest, Score};
use std::{fmt, thread, time::Duration};

/// An image as classifiers see it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// What is known of it.
    pub inspection: &'a Inspection,
    /// What the classifier's [`Classifier::view`] asks for.
    pub view: Option<&'a RgbImage>,
}

/// What a classifier says.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The best label.
    pub label: String,
    /// How sure it is of it, in percent: 0 to 100.
    pub confidence: f64,
    /// The best labels, best first; may be empty.
    pub scores: Vec<Score>,
}

/// Something that gives an image a label. It is shared by all threads that analyse.
pub trait Classifier: fmt::Debug + Send + Sync {
    /// The name and version that go into every result.
    fn analyzer(&self) -> &Analyzer;
    /// What it wants to see of an image; `None` if it does without.
    fn view(&self) -> Option<View>;
    /// Labels the image. It takes the thread for as long as it needs.
    fn classify(&self, image: &Image<'_>) -> Result<Classification, AnalysisError>;
}

/// Labels made from the digest alone: the same image, the same label, on any machine.
///
/// With the digest's bytes as big-endian numbers, the label is
/// [`Simulated::LABELS`]`[bytes 0–3 mod 10]`, the confidence `50 + (bytes 4–7 mod 5000) / 100`
/// percent: 50.00 to 99.99, two decimals.
#[derive(Debug)]
pub struct Simulated {
    analyzer: Analyzer,
    delay: Duration,
}

impl Simulated {
    /// The labels, in the order of the formula.
    pub const LABELS: [&'static str; 10] = [
        "bird", "boat", "bridge", "car", "cat", "dog", "flower", "house", "person", "tree",
    ];

    /// What is said of an image with this digest: the label, and the confidence in percent.
    #[must_use]
    pub fn draw(digest: &Digest) -> (&'static str, f64) {
        let (label, hundredths) = draw(digest);
        (label, f64::from(hundredths) / 100.0)
    }

    /// A simulation that takes `delay` for each image. It sleeps in the calling thread, which is
    /// what a real analysis of that length does to a pool of threads: one is busy.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self {
            analyzer: Analyzer {
                name: "simulated".into(),
                version: "1".into(),
                model: None,
            },
            delay,
        }
    }
}

impl Classifier for Simulated {
    fn analyzer(&self) -> &Analyzer {
        &self.analyzer
    }

    fn view(&self) -> Option<View> {
        None
    }

    fn classify(&self, image: &Image<'_>) -> Result<Classification, AnalysisError> {
        if !self.delay.is_zero() {
            thread::sleep(self.delay);
        }
        let (label, confidence) = Self::draw(&image.sha256);
        Ok(Classification {
            label: label.into(),
            confidence,
            scores: Vec::new(),
        })
    }
}

/// The label and the confidence in hundredths of a percent.
fn draw(digest: &Digest) -> (&'static str, u32) {
    let [l3, l2, l1, l0, c3, c2, c1, c0, ..] = *digest.as_bytes();
    let labels = Simulated::LABELS;
    let label = u32::from_be_bytes([l3, l2, l1, l0]) as usize % labels.len();
    let hundredths = 5000 + u32::from_be_bytes([c3, c2, c1, c0]) % 5000;
    (labels[label], hundredths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_and_confidence_come_from_the_digest() {
        let mut bytes = [0; 32];
        bytes[3] = 4;
        bytes[6..8].copy_from_slice(&1234_u16.to_be_bytes());
        assert_eq!(draw(&Digest::from_bytes(bytes)), ("cat", 6234));
        assert_eq!(draw(&Digest::from_bytes([0; 32])), ("bird", 5000));
        // 4294967295 mod 10 = 5, mod 5000 = 2295
        assert_eq!(draw(&Digest::from_bytes([0xff; 32])), ("dog", 7295));
    }

    #[test]
    fn every_label_and_confidence_is_within_bounds() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..=255 {
            let (label, hundredths) = draw(&Digest::from_bytes([seed; 32]));
            assert!((5000..10_000).contains(&hundredths));
            seen.insert(label);
        }
        assert_eq!(seen.len(), Simulated::LABELS.len());
    }
}
