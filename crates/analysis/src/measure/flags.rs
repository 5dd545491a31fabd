//! What is remarkable about an image, each with its threshold.

use super::exposure::Levels;
use image::GrayImage;

/// Less sharp than this is blurry.
const BLURRY_BELOW: f64 = 100.0;
/// Smaller images than this, in pixels a side, are not called blurry: there is too little to see.
const BLURRY_FROM: u32 = 64;
/// A mean luma below this percentage of white is dark.
const DARK_BELOW: f64 = 15.0;
/// A mean luma above this percentage of white is bright.
const BRIGHT_ABOVE: f64 = 85.0;
/// A picture whose luma spans fewer levels than this, but for 5 % at either end, has low contrast.
const LOW_CONTRAST_BELOW: u8 = 48;
/// A picture whose luma spans fewer levels than this, from end to end, shows nothing.
const FLAT_BELOW: u8 = 4;

/// Nothing is to be seen.
pub(super) const FLAT: &str = "flat";

pub(super) fn flags(
    luma: &GrayImage,
    levels: &Levels,
    sharpness: Option<f64>,
) -> Vec<&'static str> {
    let (darkest, lightest) = extremes(luma);
    let flat = lightest - darkest < FLAT_BELOW;
    let span = levels.percentile(95).saturating_sub(levels.percentile(5));
    let mean = levels.exposure().mean;
    let large = luma.width().min(luma.height()) >= BLURRY_FROM;
    let blurry = sharpness.is_some_and(|sharpness| sharpness < BLURRY_BELOW);
    let flags = [
        ("blurry", !flat && large && blurry),
        ("bright", mean > BRIGHT_ABOVE),
        ("dark", mean < DARK_BELOW),
        (FLAT, flat),
        ("low_contrast", !flat && span < LOW_CONTRAST_BELOW),
    ];
    let raised = flags.into_iter().filter(|(_, is_raised)| *is_raised);
    raised.map(|(flag, _)| flag).collect()
}

fn extremes(luma: &GrayImage) -> (u8, u8) {
    let start = (u8::MAX, u8::MIN);
    let wider =
        |(darkest, lightest): (u8, u8), &level: &u8| (darkest.min(level), lightest.max(level));
    let (darkest, lightest) = luma.iter().fold(start, wider);
    (darkest.min(lightest), lightest)
}
