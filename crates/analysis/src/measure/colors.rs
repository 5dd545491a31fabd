//! The dominant colours: a histogram split where the colours differ most, then refined.
//!
//! P. Heckbert, "Color image quantization for frame buffer display", SIGGRAPH 1982, with the split
//! at the mean of the axis of largest variance (X. Wu, 1992), and some rounds of k-means (S. Lloyd,
//! 1982) after it. Distances are Euclidean, in sRGB.

use super::percent;
use image::RgbImage;
use imgsys_types::Color;

/// As many colours as are told, at most.
const COLORS: usize = 5;
/// Bits of each channel that the histogram tells apart.
const BITS: u32 = 5;
/// Rounds of k-means: more change nothing that one can see.
const ROUNDS: usize = 4;
/// Colours closer than this are one.
const CLOSEST: f64 = 24.0;

/// Pixels of much the same colour.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    count: u32,
    sums: [u32; 3],
}

impl Group {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        for (sum, other) in self.sums.iter_mut().zip(other.sums) {
            *sum += other;
        }
    }

    fn mean(&self) -> [f64; 3] {
        let count = f64::from(self.count.max(1));
        self.sums.map(|sum| f64::from(sum) / count)
    }

    fn of(bins: &[Self]) -> Self {
        let mut all = Self::default();
        for bin in bins {
            all.add(bin);
        }
        all
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The dominant colours of a small image, the commonest first.
pub(super) fn dominant(image: &RgbImage) -> Vec<Color> {
    let bins = histogram(image);
    let mut clusters = refine(&bins, split(bins.clone()));
    merge(&mut clusters);
    clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.count), cluster.sums));
    let pixels = Group::of(&bins).count;
    let color = |cluster: &Group| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let [r, g, b] = cluster.mean().map(|level| level.round() as u8);
        Color {
            rgb: format!("#{r:02x}{g:02x}{b:02x}"),
            share: percent(cluster.count, pixels),
        }
    };
    clusters.iter().map(color).collect()
}

fn histogram(image: &RgbImage) -> Vec<Group> {
    const DROPPED: u32 = 8 - BITS;
    let mut bins = vec![Group::default(); 1 << (3 * BITS)];
    // The one loop here that all pixels go through: as plain as it can be.
    let (pixels, _) = image.as_chunks();
    for &[r, g, b] in pixels {
        let (r, g, b) = (u32::from(r), u32::from(g), u32::from(b));
        let index = (r >> DROPPED << BITS | g >> DROPPED) << BITS | b >> DROPPED;
        let bin = &mut bins[index as usize];
        bin.count += 1;
        bin.sums[0] += r;
        bin.sums[1] += g;
        bin.sums[2] += b;
    }
    bins.retain(|bin| bin.count > 0);
    bins
}

/// Cuts the bins into as many groups as there are colours; the means of the groups.
fn split(bins: Vec<Group>) -> Vec<[f64; 3]> {
    let mut boxes = vec![bins];
    while boxes.len() < COLORS {
        let spread = |bins: &Vec<Group>| widest(bins).1;
        let most = boxes
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| spread(a).total_cmp(&spread(b)));
        let Some((index, bins)) = most else { break };
        let (axis, spread) = widest(bins);
        if spread <= 0.0 {
            break;
        }
        let middle = Group::of(bins).mean()[axis];
        let bins = boxes.swap_remove(index);
        let (low, high) = bins.into_iter().partition(|bin| bin.mean()[axis] <= middle);
        boxes.extend([low, high]);
    }
    boxes.iter().map(|bins| Group::of(bins).mean()).collect()
}

/// The channel in which the bins differ most, and the sum of squares by which they do.
fn widest(bins: &[Group]) -> (usize, f64) {
    let mean = Group::of(bins).mean();
    let mut squares = [0.0; 3];
    for bin in bins {
        for ((square, level), mean) in squares.iter_mut().zip(bin.mean()).zip(mean) {
            *square += f64::from(bin.count) * (level - mean) * (level - mean);
        }
    }
    let axes = squares.into_iter().enumerate();
    axes.max_by(|(_, a), (_, b)| a.total_cmp(b))
        .unwrap_or((0, 0.0))
}

/// Gives each bin to the closest mean, and takes the means anew, some times over.
fn refine(bins: &[Group], mut means: Vec<[f64; 3]>) -> Vec<Group> {
    let mut clusters = Vec::new();
    for _ in 0..ROUNDS {
        clusters = vec![Group::default(); means.len()];
        for bin in bins {
            let of_bin = bin.mean();
            let distances = means.iter().map(|&mean| distance(mean, of_bin)).enumerate();
            if let Some((closest, _)) = distances.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
                clusters[closest].add(bin);
            }
        }
        clusters.retain(|cluster| cluster.count > 0);
        means = clusters.iter().map(Group::mean).collect();
    }
    clusters
}

/// Makes one of any two that are too close to be told apart.
fn merge(clusters: &mut Vec<Group>) {
    let close = |clusters: &[Group]| {
        let pairs = (0..clusters.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        pairs
            .into_iter()
            .find(|&(a, b)| distance(clusters[a].mean(), clusters[b].mean()) < CLOSEST * CLOSEST)
    };
    while let Some((a, b)) = close(clusters) {
        let other = clusters.swap_remove(b);
        clusters[a].add(&other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn rgbs(image: &RgbImage) -> Vec<(String, f64)> {
        let colors = dominant(image).into_iter();
        colors.map(|color| (color.rgb, color.share)).collect()
    }

    #[test]
    fn plain_colours_are_found_as_they_are() {
        let one = RgbImage::from_pixel(7, 3, Rgb([1, 2, 3]));
        assert_eq!(rgbs(&one), [("#010203".into(), 100.0)]);

        let palette = [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 255],
            [0, 0, 0],
        ];
        let stripes = RgbImage::from_fn(20, 4, |x, _| {
            let stripe = match x {
                ..8 => 0,
                8..13 => 1,
                13..16 => 2,
                16..18 => 3,
                _ => 4,
            };
            Rgb(palette[stripe])
        });
        let expected = [
            ("#ff0000", 40.0),
            ("#00ff00", 25.0),
            ("#0000ff", 15.0),
            ("#000000", 10.0),
            ("#ffffff", 10.0),
        ];
        assert_eq!(
            rgbs(&stripes),
            expected.map(|(rgb, share)| (rgb.to_owned(), share))
        );
    }

    #[test]
    fn shades_are_one_colour() {
        let shades = RgbImage::from_fn(16, 16, |x, y| {
            Rgb([100, 150, u8::try_from(200 + (x + y) % 6).unwrap()])
        });
        assert_eq!(dominant(&shades).len(), 1);
    }
}
