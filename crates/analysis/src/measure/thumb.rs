//! A blurred miniature in some 25 bytes: `ThumbHash`, of an opaque image.
//!
//! E. Wallace, "`ThumbHash`", 2023: luma and two differences of colours as low frequencies of the
//! discrete cosine transform, four bits each.

// The bytes of a word have no better names than letters.
#![allow(clippy::many_single_char_names)]

use image::RgbImage;
use std::f64::consts::PI;

/// The longest side that is hashed, in pixels.
pub(super) const SIDE: u32 = 100;
/// Frequencies of the luma along the longer side, and of the colours along both.
const LUMA: u32 = 7;
const COLORS: u32 = 3;

/// A wave weaker than this is what rounding leaves of one that is not there.
const NOISE: f64 = 1e-9;

/// A channel's mean, its other frequencies from 0 to 1 in steps of 15ths, and how strong the
/// strongest of them is.
struct Channel {
    mean: f64,
    waves: Vec<u32>,
    scale: f64,
}

/// The hash of an image of at most [`SIDE`] pixels a side.
pub(super) fn hash(image: &RgbImage) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let longer = width.max(height).max(1);
    let share = |side: u32| ((2 * LUMA * side + longer) / (2 * longer)).max(1);
    let (across, down) = (share(width), share(height));
    let channel = |mix: fn([f64; 3]) -> f64, across, down| {
        let values: Vec<f64> = image
            .pixels()
            .map(|pixel| mix(pixel.0.map(|level| f64::from(level) / 255.0)))
            .collect();
        encode(&values, image.dimensions(), across, down)
    };
    let luma = channel(|[r, g, b]| (r + g + b) / 3.0, across.max(3), down.max(3));
    let yellow = channel(|[r, g, b]| f64::midpoint(r, g) - b, COLORS, COLORS);
    let red = channel(|[r, g, _]| r - g, COLORS, COLORS);

    let landscape = width > height;
    let first = steps(luma.mean, 63)
        | steps(f64::midpoint(1.0, yellow.mean), 63) << 6
        | steps(f64::midpoint(1.0, red.mean), 63) << 12
        | steps(luma.scale, 31) << 18;
    let second = if landscape { down } else { across }
        | steps(yellow.scale, 63) << 3
        | steps(red.scale, 63) << 9
        | u32::from(landscape) << 15;
    let [a, b, c, _] = first.to_le_bytes();
    let [d, e, _, _] = second.to_le_bytes();
    let mut hash = vec![a, b, c, d, e];
    let waves = [luma.waves, yellow.waves, red.waves].concat();
    // Two to a byte, the first below.
    hash.extend(waves.chunks(2).map(|pair| {
        let pair = pair.iter().rev().fold(0, |byte, &wave| byte << 4 | wave);
        u8::try_from(pair).unwrap_or(u8::MAX)
    }));
    hash
}

/// A number from 0 to 1 in steps.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn steps(value: f64, most: u32) -> u32 {
    (value.clamp(0.0, 1.0) * f64::from(most)).round() as u32
}

/// The frequencies in the triangle below the diagonal from `across` to `down`.
fn encode(values: &[f64], (width, height): (u32, u32), across: u32, down: u32) -> Channel {
    let wave = |frequency: u32, side: u32| -> Vec<f64> {
        let step = PI * f64::from(frequency) / f64::from(side);
        (0..side)
            .map(|at| (step * (f64::from(at) + 0.5)).cos())
            .collect()
    };
    let pixels = f64::from(width) * f64::from(height);
    let mut found = Vec::new();
    // Rows first: each is needed for every frequency down.
    let columns: Vec<Vec<f64>> = (0..across)
        .map(|frequency| {
            let wave = wave(frequency, width);
            let rows = values.chunks_exact(wave.len());
            rows.map(|row| row.iter().zip(&wave).map(|(v, w)| v * w).sum())
                .collect()
        })
        .collect();
    for y in 0..down {
        let wave = wave(y, height);
        for (x, column) in (0..).zip(&columns) {
            if x * down < across * (down - y) {
                let sum: f64 = column.iter().zip(&wave).map(|(v, w)| v * w).sum();
                found.push(sum / pixels);
            }
        }
    }
    let (mean, waves) = found.split_first().map_or((0.0, &[][..]), |(m, w)| (*m, w));
    let scale = waves
        .iter()
        .fold(0.0_f64, |scale, wave| scale.max(wave.abs()));
    let scale = if scale > NOISE { scale } else { 0.0 };
    let wave = |&wave: &f64| {
        let share = if scale > 0.0 { wave / scale } else { 0.0 };
        // Without any wave the middle is not taken but the bottom, as others do.
        if scale > 0.0 {
            steps(f64::midpoint(1.0, share), 15)
        } else {
            0
        }
    };
    Channel {
        mean,
        waves: waves.iter().map(wave).collect(),
        scale,
    }
}
