//! Which classifier gives the label, and the model loaded if it needs one.

use imgsys_analysis::{
    Classifier, Onnx, Simulated,
    onnx::{Layout, ModelError, Resize, Settings},
};
use imgsys_service::config::{self, ClassifierKind, OnnxConfig, WorkerConfig};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tracing::{info, warn};

/// Why there is no classifier.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClassifierError {
    #[error("worker.onnx.model: the classifier onnx needs a model")]
    NoModel,
    #[error("worker.onnx.{key}: {}: {source}", .file.display())]
    Read {
        key: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    #[error("worker.onnx.{key}: {count} numbers: give one, or three for red, green and blue")]
    Channels { key: &'static str, count: usize },
    #[error("worker.onnx.{0}")]
    Setting(ModelError),
    #[error("worker.onnx.labels: {}: {source}", .file.display())]
    Labels { file: PathBuf, source: ModelError },
    #[error("worker.onnx.model: {}: {source}", .file.display())]
    Model { file: PathBuf, source: ModelError },
}

/// The classifier that the configuration asks for.
pub(crate) fn classifier(worker: &WorkerConfig) -> Result<Box<dyn Classifier>, ClassifierError> {
    let simulated = || Box::new(Simulated::new(worker.delay));
    match (worker.classifier, &worker.onnx.model) {
        (ClassifierKind::Simulated, _) => Ok(simulated()),
        (ClassifierKind::Onnx, None) => Err(ClassifierError::NoModel),
        (ClassifierKind::Auto, None) => {
            warn!("no model is configured (worker.onnx.model): labels are simulated");
            Ok(simulated())
        }
        (ClassifierKind::Auto | ClassifierKind::Onnx, Some(model)) => {
            let onnx = load(&worker.onnx, model)?;
            let analyzer = onnx.analyzer();
            info!(
                name = analyzer.name,
                version = analyzer.version,
                "the model {} is loaded",
                model.display()
            );
            Ok(Box::new(onnx))
        }
    }
}

fn load(config: &OnnxConfig, file: &Path) -> Result<Onnx, ClassifierError> {
    let settings = settings(config)?;
    let read = |key, file: &Path, source| ClassifierError::Read {
        key,
        file: file.to_owned(),
        source,
    };
    let labels_file = config
        .labels
        .clone()
        .unwrap_or_else(|| file.with_file_name("labels.txt"));
    let model = fs::read(file).map_err(|error| read("model", file, error))?;
    let labels =
        fs::read_to_string(&labels_file).map_err(|error| read("labels", &labels_file, error))?;
    Onnx::new(&model, &labels, settings).map_err(|source| match source {
        ModelError::Setting { .. } => ClassifierError::Setting(source),
        ModelError::Labels { .. } | ModelError::EmptyLabel { .. } => ClassifierError::Labels {
            file: labels_file,
            source,
        },
        ModelError::Read(_)
        | ModelError::Inputs(_)
        | ModelError::Input { .. }
        | ModelError::Prepare(_)
        | ModelError::NoProbabilities { .. }
        | ModelError::Run(_) => ClassifierError::Model {
            file: file.to_owned(),
            source,
        },
    })
}

fn settings(config: &OnnxConfig) -> Result<Settings, ClassifierError> {
    Ok(Settings {
        name: config.name.clone(),
        input_size: config.input_size,
        resize: match config.resize {
            config::Resize::Crop => Resize::Crop(config.crop),
            config::Resize::Squeeze => Resize::Squeeze,
        },
        mean: channels("mean", &config.mean)?,
        scale: channels("scale", &config.scale)?,
        layout: match config.layout {
            config::Layout::Nchw => Layout::Nchw,
            config::Layout::Nhwc => Layout::Nhwc,
        },
        softmax: config.softmax,
        top_k: config.top_k,
        min_confidence: config.min_confidence,
    })
}

/// One number for all three channels, or one for each.
fn channels(key: &'static str, numbers: &[f64]) -> Result<[f32; 3], ClassifierError> {
    // Samples have 8 bits, and models run with 32.
    #[allow(clippy::cast_possible_truncation)]
    let single = |number: f64| number as f32;
    match *numbers {
        [all] => Ok([single(all); 3]),
        [red, green, blue] => Ok([red, green, blue].map(single)),
        _ => Err(ClassifierError::Channels {
            key,
            count: numbers.len(),
        }),
    }
}
