//! How light an image is: the mean of its luma, and how much of it is black or white.

use super::{hundredths, percent};
use image::GrayImage;
use imgsys_types::Exposure;

/// Luma up to here counts as black.
const SHADOW: usize = 3;
/// Luma from here on counts as white.
const HIGHLIGHT: usize = 252;

/// How often each luma occurs.
#[derive(Debug)]
pub(super) struct Levels {
    counts: [u32; 256],
    pixels: u32,
}

impl Levels {
    pub(super) fn of(luma: &GrayImage) -> Self {
        let mut counts = [0; 256];
        for &level in luma.iter() {
            counts[usize::from(level)] += 1;
        }
        Self {
            counts,
            pixels: counts.iter().sum(),
        }
    }

    pub(super) fn exposure(&self) -> Exposure {
        Exposure {
            mean: hundredths(self.mean() * 100.0 / 255.0),
            shadows: percent(self.counts[..=SHADOW].iter().sum(), self.pixels),
            highlights: percent(self.counts[HIGHLIGHT..].iter().sum(), self.pixels),
        }
    }

    fn mean(&self) -> f64 {
        let sum: u64 = (0..)
            .zip(self.counts)
            .map(|(level, n)| level * u64::from(n))
            .sum();
        // At most 255 times the pixels of a small image: exact.
        #[allow(clippy::cast_precision_loss)]
        let sum = sum as f64;
        sum / f64::from(self.pixels.max(1))
    }

    /// The luma below which this share of the pixels lies, in percent.
    pub(super) fn percentile(&self, percent: u64) -> u8 {
        let wanted = u64::from(self.pixels) * percent / 100;
        let mut seen = 0;
        for (level, &count) in (0..=255).zip(&self.counts) {
            seen += u64::from(count);
            if seen > wanted {
                return level;
            }
        }
        u8::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Luma;

    fn levels(pixels: &[u8]) -> Levels {
        let width = u32::try_from(pixels.len()).unwrap();
        Levels::of(&GrayImage::from_raw(width, 1, pixels.to_vec()).unwrap())
    }

    #[test]
    fn mean_shadows_and_highlights() {
        let found = levels(&[0, 3, 4, 251, 252, 255, 255, 20]).exposure();
        let mean = f64::from(3 + 4 + 251 + 252 + 255 + 255 + 20) / 8.0 * 100.0 / 255.0;
        assert!((found.mean - mean).abs() < 0.01, "{found:?}");
        assert_eq!((found.shadows, found.highlights), (25.0, 37.5));
    }

    #[test]
    fn percentiles() {
        let found = levels(&(0..100).collect::<Vec<_>>());
        let at = [0, 5, 50, 95, 100].map(|percent| found.percentile(percent));
        assert_eq!(at, [0, 5, 50, 95, 255]);
        let flat = Levels::of(&GrayImage::from_pixel(5, 5, Luma([7])));
        assert_eq!((flat.percentile(5), flat.percentile(95)), (7, 7));
    }
}
