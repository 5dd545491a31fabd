//! How a model wants to see an image.

use super::ModelError;
use crate::View;
use image::RgbImage;

/// How the picture becomes the square that the model sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resize {
    /// The centre: a square of this share of the shorter side (above 0, at most 1).
    Crop(f64),
    /// The whole picture, squeezed.
    Squeeze,
}

/// In which order the numbers of the input come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All of red, all of green, all of blue: 1 × 3 × side × side.
    Nchw,
    /// Pixel by pixel: 1 × side × side × 3.
    Nhwc,
}

/// How a model wants to see an image, and what is told of what it says.
///
/// A sample of 0 to 255 goes in as `(sample - mean) / scale`, for red, green and blue each.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The analyzer's name in results.
    pub name: String,
    /// The side of the square that the model sees, in pixels.
    pub input_size: u32,
    /// How the picture becomes that square.
    pub resize: Resize,
    /// What is taken from each sample.
    pub mean: [f32; 3],
    /// What it is divided by then.
    pub scale: [f32; 3],
    /// In which order the samples go in.
    pub layout: Layout,
    /// The model says logits, which are made probabilities here.
    pub softmax: bool,
    /// So many of the best labels are told.
    pub top_k: usize,
    /// In percent: labels below it are not told, and if the best is below it, the label is
    /// [`super::UNKNOWN`].
    pub min_confidence: f64,
}

/// What the packaged EfficientNet-Lite0 wants, and with it all of its family but for the size.
impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "onnx".into(),
            input_size: 224,
            resize: Resize::Crop(0.875),
            mean: [127.0; 3],
            scale: [128.0; 3],
            layout: Layout::Nchw,
            softmax: false,
            top_k: 5,
            min_confidence: 0.0,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), ModelError> {
        const LARGEST: u32 = 2048;
        let wrong = |key, allowed| Err(ModelError::Setting { key, allowed });
        if !(1..=LARGEST).contains(&self.input_size) {
            return wrong("input_size", "1 to 2048 pixels");
        }
        match self.resize {
            Resize::Crop(share) if !(share > 0.0 && share <= 1.0) => {
                return wrong("crop", "a share above 0, at most 1");
            }
            Resize::Crop(_) | Resize::Squeeze => {}
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return wrong("mean", "finite numbers");
        }
        if !self.scale.iter().all(|scale| scale.is_normal()) {
            return wrong("scale", "numbers other than 0");
        }
        if self.top_k == 0 {
            return wrong("top_k", "at least 1");
        }
        if !(0.0..=100.0).contains(&self.min_confidence) {
            return wrong("min_confidence", "0 to 100 percent");
        }
        Ok(())
    }

    pub(super) const fn view(&self) -> View {
        let side = self.input_size;
        match self.resize {
            Resize::Crop(share) => View::Crop { side, share },
            Resize::Squeeze => View::Squeeze { side },
        }
    }

    /// The shape of the model's input.
    pub(super) const fn shape(&self) -> [usize; 4] {
        let side = self.input_size as usize;
        match self.layout {
            Layout::Nchw => [1, 3, side, side],
            Layout::Nhwc => [1, side, side, 3],
        }
    }

    /// The model's input for a square.
    pub(super) fn input(&self, view: &RgbImage) -> Vec<f32> {
        let scaled = |channel: usize, sample: u8| {
            (f32::from(sample) - self.mean[channel]) / self.scale[channel]
        };
        match self.layout {
            Layout::Nchw => (0..3)
                .flat_map(|channel| {
                    let samples = view.pixels().map(move |pixel| pixel.0[channel]);
                    samples.map(move |sample| scaled(channel, sample))
                })
                .collect(),
            Layout::Nhwc => view
                .pixels()
                .flat_map(|pixel| [0, 1, 2].map(|channel| scaled(channel, pixel.0[channel])))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn samples_go_in_scaled_and_in_order() {
        let view = RgbImage::from_fn(2, 1, |x, _| {
            Rgb(if x == 0 { [0, 1, 2] } else { [10, 20, 30] })
        });
        let mut settings = Settings {
            input_size: 1,
            mean: [0.0, 1.0, 2.0],
            scale: [1.0, 2.0, 4.0],
            ..Settings::default()
        };
        assert_eq!(settings.input(&view), [0.0, 10.0, 0.0, 9.5, 0.0, 7.0]);
        settings.layout = Layout::Nhwc;
        assert_eq!(settings.input(&view), [0.0, 0.0, 0.0, 10.0, 9.5, 7.0]);
    }

    #[test]
    fn settings_that_make_no_sense_are_told_by_their_key() {
        let base = Settings::default;
        for (settings, wrong) in [
            (
                Settings {
                    input_size: 0,
                    ..base()
                },
                "input_size",
            ),
            (
                Settings {
                    resize: Resize::Crop(1.5),
                    ..base()
                },
                "crop",
            ),
            (
                Settings {
                    resize: Resize::Crop(f64::NAN),
                    ..base()
                },
                "crop",
            ),
            (
                Settings {
                    mean: [f32::NAN; 3],
                    ..base()
                },
                "mean",
            ),
            (
                Settings {
                    scale: [1.0, 0.0, 1.0],
                    ..base()
                },
                "scale",
            ),
            (Settings { top_k: 0, ..base() }, "top_k"),
            (
                Settings {
                    min_confidence: 101.0,
                    ..base()
                },
                "min_confidence",
            ),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(wrong), "{error}");
        }
        base().check().unwrap();
    }
}
