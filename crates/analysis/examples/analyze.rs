//! What imgsys finds in images, one line of JSON for each, without any of its services:
//! `analyze [MODEL LABELS] -- IMAGE…`
//!
//! With a model, each line also has all its probabilities and what it was shown, as Base64, so that
//! other programs' answers can be compared (`models/efficientnet-lite0/compare.py`).

use base64::{Engine, prelude::BASE64_STANDARD};
use imgsys_analysis::{
    AnalysisError, Classification, Classifier, Depth, Image, Limits, Onnx, Options, Simulated,
    View, analyze, onnx::Settings,
};
use imgsys_types::{Analyzer, Digest};
use sha2::{Digest as _, Sha256};
use std::{error::Error, fs, sync::Mutex, time::Duration};

/// Keeps what the model was shown and what it said.
#[derive(Debug)]
struct Witness {
    onnx: Onnx,
    last: Mutex<(Vec<f32>, Vec<u8>)>,
}

impl Classifier for Witness {
    fn analyzer(&self) -> &Analyzer {
        self.onnx.analyzer()
    }

    fn view(&self) -> Option<View> {
        self.onnx.view()
    }

    fn classify(&self, image: &Image<'_>) -> Result<Classification, AnalysisError> {
        if let (Some(view), Ok(mut last)) = (image.view, self.last.lock())
            && let Ok(probabilities) = self.onnx.probabilities(view)
        {
            *last = (probabilities, view.as_raw().clone());
        }
        self.onnx.classify(image)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, images) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (&[][..], &arguments[..]),
    };
    let witness = match model {
        [model, labels] => Some(Witness {
            onnx: Onnx::new(
                &fs::read(model)?,
                &fs::read_to_string(labels)?,
                Settings::default(),
            )?,
            last: Mutex::default(),
        }),
        _ => None,
    };
    let simulated = Simulated::new(Duration::ZERO);
    let options = Options {
        limits: Limits {
            max_pixels: 50_000_000,
            max_side: 32_768,
            max_decode_memory: 512 << 20,
        },
        depth: Depth::Full,
        keep_gps: true,
    };
    for image in images {
        let bytes = fs::read(image)?;
        let sha256 = Digest::from_bytes(Sha256::digest(&bytes).into());
        let classifier: &dyn Classifier = match &witness {
            Some(witness) => witness,
            None => &simulated,
        };
        let mut line = serde_json::json!({ "file": image });
        match analyze(&bytes, sha256, &options, classifier) {
            Ok(analysis) => line["analysis"] = serde_json::to_value(analysis)?,
            Err(error) => line["error"] = error.to_string().into(),
        }
        if let Some(last) = witness
            .as_ref()
            .and_then(|witness| witness.last.lock().ok())
        {
            line["probabilities"] = serde_json::to_value(&last.0)?;
            line["shown"] = BASE64_STANDARD.encode(&last.1).into();
        }
        println!("{line}");
    }
    Ok(())
}
