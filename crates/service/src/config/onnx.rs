//! `[worker.onnx]`: the model of the classifier `onnx`, and how it wants to see an image.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the picture becomes the square that the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The centre of it, `crop` of its shorter side.
    Crop,
    /// All of it, squeezed.
    Squeeze,
}

/// In which order the numbers of the input come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// All of red, all of green, all of blue: 1 x 3 x side x side.
    Nchw,
    /// Pixel by pixel: 1 x side x side x 3.
    Nhwc,
}

/// The model of the classifier `onnx`. The defaults are what the packaged EfficientNet-Lite0 wants.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxConfig {
    /// The model, an ONNX file: a classifier of images
    #[arg(id = "worker.onnx.model", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Its labels, one a line, in the order of its outputs [default: labels.txt beside the model]
    #[arg(id = "worker.onnx.labels", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The analyzer's name in results
    #[arg(
        id = "worker.onnx.name",
        long,
        value_name = "NAME",
        default_value = "onnx"
    )]
    pub name: String,
    /// The side of the square that the model sees, in pixels
    #[arg(
        id = "worker.onnx.input_size",
        long,
        value_name = "PIXELS",
        default_value = "224"
    )]
    pub input_size: u32,
    /// How the picture becomes that square
    #[arg(id = "worker.onnx.resize", long, value_enum, default_value = "crop")]
    pub resize: Resize,
    /// How much of the shorter side is seen, if it is cropped: above 0, at most 1
    #[arg(
        id = "worker.onnx.crop",
        long,
        value_name = "SHARE",
        default_value = "0.875"
    )]
    pub crop: f64,
    /// What is taken from each sample of 0 to 255: one number, or three for red, green and blue
    #[arg(
        id = "worker.onnx.mean",
        long,
        value_name = "NUMBER",
        value_delimiter = ',',
        allow_negative_numbers = true,
        default_value = "127"
    )]
    pub mean: Vec<f64>,
    /// What that is divided by then: one number, or three
    #[arg(
        id = "worker.onnx.scale",
        long,
        value_name = "NUMBER",
        value_delimiter = ',',
        allow_negative_numbers = true,
        default_value = "128"
    )]
    pub scale: Vec<f64>,
    /// In which order the samples go in
    #[arg(id = "worker.onnx.layout", long, value_enum, default_value = "nchw")]
    pub layout: Layout,
    /// The model says logits, not probabilities
    #[arg(id = "worker.onnx.softmax", long)]
    pub softmax: bool,
    /// So many of the best labels are told
    #[arg(id = "worker.onnx.top_k", long, value_name = "N", default_value = "5")]
    pub top_k: usize,
    /// Labels less sure than this, in percent, are not told; if none is left, the label is `unknown`
    #[arg(
        id = "worker.onnx.min_confidence",
        long,
        value_name = "PERCENT",
        default_value = "0"
    )]
    pub min_confidence: f64,
}
