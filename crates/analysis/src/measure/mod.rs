//! What can be measured on the small image: how sharp and how light it is, its colours, and what
//! it looks like in few bytes. `docs/analysis.md` tells the formulas and where they come from.
//!
//! All of it is a pure function of the small image, which is always the same for the same file: its
//! size does not depend on the classifier's.

mod colors;
mod exposure;
mod flags;
mod perceptual;
mod sharpness;
mod thumb;

use crate::picture::{self, ResizeError};
use image::{GrayImage, RgbImage};
use imgsys_types::{Color, Exposure, PerceptualHash};

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Looks {
    /// The variance of the Laplacian; `None` if the image has no inner pixels.
    pub sharpness: Option<f64>,
    /// How light it is.
    pub exposure: Exposure,
    /// The dominant colours, the commonest first.
    pub colors: Vec<Color>,
    /// `None` if there is nothing to be seen, so that blank images do not count as alike.
    pub perceptual_hash: Option<PerceptualHash>,
    /// A `ThumbHash`.
    pub thumb_hash: Vec<u8>,
    /// What is remarkable, in alphabetical order.
    pub flags: Vec<&'static str>,
}

impl Looks {
    /// Measures a small image.
    pub(crate) fn of(small: &RgbImage) -> Result<Self, ResizeError> {
        let luma = luma(small);
        let levels = exposure::Levels::of(&luma);
        let sharpness = sharpness::sharpness(&luma);
        let flags = flags::flags(&luma, &levels, sharpness);
        let perceptual_hash = if flags.contains(&flags::FLAT) {
            None
        } else {
            Some(perceptual::hash(&picture::square(&luma, perceptual::SIDE)?))
        };
        Ok(Self {
            sharpness,
            exposure: levels.exposure(),
            colors: colors::dominant(small),
            perceptual_hash,
            thumb_hash: thumb::hash(&picture::within(small, thumb::SIDE)?),
            flags,
        })
    }
}

/// The luma of ITU-R BT.601, as JFIF has it: 0.299 R + 0.587 G + 0.114 B, rounded.
fn luma(image: &RgbImage) -> GrayImage {
    let mut luma = GrayImage::new(image.width(), image.height());
    for (to, from) in luma.iter_mut().zip(image.pixels()) {
        let [r, g, b] = from.0.map(u32::from);
        // The weights in 65536ths; their sum is 65536.
        let sum = (19_595 * r + 38_470 * g + 7_471 * b + (1 << 15)) >> 16;
        *to = u8::try_from(sum).unwrap_or(u8::MAX);
    }
    luma
}

/// Two decimals are as exact as anything here.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// How much `part` is of `whole`, in percent; numbers of pixels of a small image.
fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    hundredths(f64::from(part) * 100.0 / f64::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn luma_weighs_the_colours() {
        let image = |color| luma(&RgbImage::from_pixel(1, 1, Rgb(color)))[(0, 0)].0[0];
        assert_eq!(image([0, 0, 0]), 0);
        assert_eq!(image([255, 255, 255]), 255);
        assert_eq!(image([255, 0, 0]), 76);
        assert_eq!(image([0, 255, 0]), 150);
        assert_eq!(image([0, 0, 255]), 29);
    }
}
