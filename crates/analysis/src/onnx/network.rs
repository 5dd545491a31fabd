//! The model, loaded, checked and optimised once.

use super::Settings;
use std::{fmt, sync::Arc};
use tract_onnx::{
    prelude::{
        DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable,
        IntoTValue, Tensor, TractError, TypedModel, TypedNode, TypedRunnableModel, tvec,
    },
    tract_core::{
        ops::{binary::TypedBinOp, cnn::Conv},
        transform::get_transform,
    },
    tract_hir::infer::Factoid,
};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with a model, its labels or its settings.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A setting that makes no sense.
    #[error("{key}: {allowed}, nothing else")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A line of the labels is empty.
    #[error("line {line} of the labels is empty")]
    EmptyLabel {
        /// The line's number, from 1.
        line: usize,
    },
    /// The bytes are no ONNX model that tract understands.
    #[error("reading the model: {0}")]
    Read(#[source] Cause),
    /// A classifier of images has one input.
    #[error("the model has {0} inputs, not one")]
    Inputs(usize),
    /// The model's input has another shape than the settings make.
    #[error("the model's input is {model}, but size and layout make it {settings}")]
    Input {
        /// As the model says.
        model: String,
        /// As the settings say.
        settings: String,
    },
    /// The model can't be made ready.
    #[error("preparing the model: {0}")]
    Prepare(#[source] Cause),
    /// Another number of labels than the model has outputs.
    #[error("the model tells {outputs} labels apart, but there are {labels} labels")]
    Labels {
        /// Lines of the labels' file.
        labels: usize,
        /// Numbers that come out of the model.
        outputs: usize,
    },
    /// What came out are no probabilities.
    #[error(
        "what the model says are no probabilities: their sum is {sum}; perhaps it needs softmax"
    )]
    NoProbabilities {
        /// What they add up to.
        sum: f32,
    },
    /// Running the model failed.
    #[error("running the model: {0}")]
    Run(#[source] Cause),
}

/// A model that is ready to run.
pub(super) struct Network {
    plan: Arc<TypedRunnableModel>,
    shape: [usize; 4],
    softmax: bool,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("shape", &self.shape)
            .field("softmax", &self.softmax)
            .finish_non_exhaustive()
    }
}

impl Network {
    pub(super) fn load(
        model: &[u8],
        settings: &Settings,
        labels: usize,
    ) -> Result<Self, ModelError> {
        let mut bytes = model;
        let model = tract_onnx::onnx()
            .model_for_read(&mut bytes)
            .map_err(|error| ModelError::Read(error.into()))?;
        let shape = settings.shape();
        check_input(&model, shape)?;
        let prepare = |error: TractError| ModelError::Prepare(error.into());
        let input = InferenceFact::dt_shape(DatumType::F32, shape);
        let plan = model
            .with_input_fact(0, input)
            .and_then(InferenceModelExt::into_typed)
            .and_then(optimized)
            .and_then(IntoRunnable::into_runnable)
            .map_err(prepare)?;
        let network = Self {
            plan,
            shape,
            softmax: settings.softmax,
        };
        // Once for nothing: what only shows when it runs shows now.
        let gray = vec![0.0; shape.iter().product()];
        let outputs = network.run(&gray)?.len();
        if outputs != labels {
            return Err(ModelError::Labels { labels, outputs });
        }
        Ok(network)
    }

    /// The probabilities for an input of the network's shape.
    pub(super) fn run(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let failed = |error: TractError| ModelError::Run(error.into());
        let input = Tensor::from_shape(&self.shape, input).map_err(failed)?;
        let outputs = self.plan.run(tvec!(input.into_tvalue())).map_err(failed)?;
        let mut probabilities = Vec::new();
        if let Some(output) = outputs.first() {
            let output = output.to_plain_array_view::<f32>().map_err(failed)?;
            probabilities.extend(output.iter().copied());
        }
        if self.softmax {
            soften(&mut probabilities);
        }
        let sum: f32 = probabilities.iter().sum();
        let within = probabilities.iter().all(|p| (-0.001..=1.001).contains(p));
        if within && (sum - 1.0).abs() < 0.01 {
            Ok(probabilities)
        } else {
            Err(ModelError::NoProbabilities { sum })
        }
    }
}

/// The model as it runs fastest.
fn optimized(model: TypedModel) -> Result<TypedModel, TractError> {
    let model = model.into_decluttered()?;
    // What can't be had this way can be had the other.
    match channels_last(&model) {
        Ok(Some(optimized)) => Ok(optimized),
        Ok(None) | Err(_) => model.into_optimized(),
    }
}

/// The model optimised to keep all channels of a pixel side by side; `None` if that is no gain.
///
/// On x86-64 tract runs depthwise convolutions channel by channel, without vector instructions
/// wherever the stride is 2 or a row is short; across the channels it uses them everywhere. But then
/// it is slow at arithmetic of a number for each channel with all pixels, such as a batch
/// normalisation that is not part of a convolution, or squeeze-and-excitation. Sums keep their
/// order: what comes out is the same but for rounding.
fn channels_last(model: &TypedModel) -> Result<Option<TypedModel>, TractError> {
    /// So many numbers are dealt with in no time, however it is done.
    const FEW: usize = 10_000;
    let is_depthwise = |conv: &Conv| {
        conv.group > 1 && [conv.input_channels(), conv.output_channels()] == [conv.group; 2]
    };
    let mut convolutions = model.nodes().iter().filter_map(|node| node.op_as::<Conv>());
    if !convolutions.any(is_depthwise) {
        return Ok(None);
    }
    let Some(transform) = get_transform("conv_nhwc")? else {
        return Ok(None);
    };
    let optimized = transform.transform_into(model.clone())?.into_optimized()?;
    let is_slow = |node: &TypedNode| {
        let mut shapes = node.outputs.iter().map(|output| &output.fact.shape);
        node.op_is::<TypedBinOp>()
            && shapes.any(|shape| {
                let numbers = shape.as_concrete().map(|sides| sides.iter().product());
                numbers.is_none_or(|numbers: usize| numbers > FEW)
            })
    };
    let is_slow = optimized.nodes().iter().any(is_slow);
    Ok((!is_slow).then_some(optimized))
}

fn check_input(model: &InferenceModel, shape: [usize; 4]) -> Result<(), ModelError> {
    let read = |error: TractError| ModelError::Read(error.into());
    let inputs = model.input_outlets().map_err(read)?.len();
    if inputs != 1 {
        return Err(ModelError::Inputs(inputs));
    }
    let input = model.input_fact(0).map_err(read)?;
    // What the model leaves open fits.
    let dims: Vec<Option<i64>> = input
        .shape
        .dims()
        .map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok()))
        .collect();
    let fits_dim = |(dim, wanted): (&Option<i64>, &usize)| {
        dim.is_none_or(|dim| usize::try_from(dim).is_ok_and(|dim| dim == *wanted))
    };
    let ranks_fit = input.shape.is_open() && dims.is_empty() || dims.len() == shape.len();
    let type_fits = input
        .datum_type
        .concretize()
        .is_none_or(|kind| kind == DatumType::F32);
    if ranks_fit && type_fits && dims.iter().zip(&shape).all(fits_dim) {
        return Ok(());
    }
    let told = |dims: Vec<String>| dims.join("x");
    let dims = dims
        .iter()
        .map(|dim| dim.map_or("?".into(), |dim| dim.to_string()));
    let kind = input.datum_type.concretize();
    let kind = kind.map_or_else(|| "numbers".into(), |kind| format!("{kind:?}"));
    Err(ModelError::Input {
        model: format!("{} of {kind}", told(dims.collect())),
        settings: format!("{} of F32", told(shape.map(|dim| dim.to_string()).to_vec())),
    })
}

/// Logits to probabilities. The largest is taken out first, so that nothing overflows.
fn soften(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for logit in &mut *logits {
        *logit = (*logit - largest).exp();
    }
    let sum: f32 = logits.iter().sum();
    for logit in logits {
        *logit /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // The halves are exact.
    #[allow(clippy::float_cmp)]
    fn logits_of_any_size_become_probabilities() {
        let mut logits = [1000.0, 1000.0, -1000.0];
        soften(&mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
    }

    fn typed(model: &[u8]) -> TypedModel {
        let input = InferenceFact::dt_shape(DatumType::F32, [1, 3, 8, 8]);
        let model = tract_onnx::onnx().model_for_read(&mut &*model).unwrap();
        let model = model.with_input_fact(0, input).unwrap();
        model.into_typed().unwrap().into_decluttered().unwrap()
    }

    #[test]
    fn networks_with_depthwise_convolutions_work_pixel_by_pixel() {
        let depthwise = typed(include_bytes!("../../tests/models/depthwise.onnx"));
        assert!(channels_last(&depthwise).unwrap().is_some());
        let plain = typed(include_bytes!("../../tests/models/nchw.onnx"));
        assert!(channels_last(&plain).unwrap().is_none());
    }
}
