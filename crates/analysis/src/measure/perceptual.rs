//! A hash by which images that look alike are found: `pHash`, from the low frequencies of the
//! discrete cosine transform.
//!
//! C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.

use image::GrayImage;
use imgsys_types::PerceptualHash;
use std::f64::consts::PI;

/// The side of the image that is hashed, in pixels.
pub(super) const SIDE: u32 = 32;
const PIXELS: usize = SIDE as usize;
/// Frequencies in each direction; the constant (number 0) says nothing of what is to be seen.
const FREQUENCIES: usize = 8;
/// Less than what rounding leaves of a frequency that is not there.
const NOISE: f64 = 1e-6;

/// The hash of an image of [`SIDE`] × [`SIDE`] pixels. Row by row of the frequencies 1 to 8, from the
/// most significant bit on, a bit is set if that frequency is stronger than the median.
pub(super) fn hash(luma: &GrayImage) -> PerceptualHash {
    let waves = waves();
    let coefficients = transform(luma, &waves);
    let mut sorted = coefficients;
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = f64::midpoint(sorted[middle - 1], sorted[middle]);
    let bits = coefficients.iter().fold(0, |bits, &coefficient| {
        bits << 1 | u64::from(coefficient > median + NOISE)
    });
    PerceptualHash::from_bits(bits)
}

type Waves = [[f64; PIXELS]; FREQUENCIES];

/// cos((2x + 1) u π / 2N) for u from 1 on.
fn waves() -> Waves {
    let mut waves = [[0.0; PIXELS]; FREQUENCIES];
    for (frequency, wave) in (1_u32..).zip(&mut waves) {
        for (x, value) in (0_u32..).zip(wave) {
            let angle = f64::from((2 * x + 1) * frequency) * PI / f64::from(2 * SIDE);
            *value = angle.cos();
        }
    }
    waves
}

/// The DCT-II, without its factors, which the comparison does not see: rows first.
fn transform(luma: &GrayImage, waves: &Waves) -> [f64; FREQUENCIES * FREQUENCIES] {
    let mut rows = [[0.0; PIXELS]; FREQUENCIES];
    for (y, row) in luma.chunks_exact(PIXELS).take(PIXELS).enumerate() {
        for (frequency, wave) in waves.iter().enumerate() {
            let terms = row.iter().zip(wave);
            rows[frequency][y] = terms.map(|(&luma, wave)| f64::from(luma) * wave).sum();
        }
    }
    let mut coefficients = [0.0; FREQUENCIES * FREQUENCIES];
    for (index, coefficient) in coefficients.iter_mut().enumerate() {
        let column = &rows[index % FREQUENCIES];
        let wave = &waves[index / FREQUENCIES];
        *coefficient = column
            .iter()
            .zip(wave)
            .map(|(value, wave)| value * wave)
            .sum();
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave of one frequency across, of another down.
    fn pattern(across: u32, down: u32) -> GrayImage {
        let wave = |at: u32, frequency: u32| {
            (f64::from((2 * at + 1) * frequency) * PI / f64::from(2 * SIDE)).cos()
        };
        GrayImage::from_fn(SIDE, SIDE, |x, y| {
            let level = 128.0 + 100.0 * wave(x, across) * wave(y, down);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            image::Luma([level.round() as u8])
        })
    }

    #[test]
    fn a_wave_sets_its_own_bit() {
        for (across, down) in [(1, 1), (3, 2), (8, 8)] {
            let bits = hash(&pattern(across, down)).bits();
            let place = 63 - ((down - 1) * 8 + across - 1);
            assert_eq!(bits >> place & 1, 1, "{across} {down}: {bits:064b}");
        }
    }

    #[test]
    fn light_and_contrast_change_little() {
        let image = GrayImage::from_fn(SIDE, SIDE, |x, y| {
            image::Luma([u8::try_from((x * x + 7 * y * x + 3 * y * y) % 200).unwrap()])
        });
        let mut lighter = image.clone();
        lighter
            .iter_mut()
            .for_each(|level| *level = *level / 2 + 60);
        let distance = hash(&image).distance(hash(&lighter));
        assert!(distance <= 4, "{distance}");
        let other = hash(&pattern(2, 5)).distance(hash(&image));
        assert!(other > 12, "{other}");
    }
}
