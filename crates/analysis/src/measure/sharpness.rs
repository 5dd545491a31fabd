//! How sharp an image is: the variance of its Laplacian.
//!
//! J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study",
//! ICPR 2000: an image in focus has edges, edges make the second derivative vary.

use super::hundredths;
use image::GrayImage;

/// The variance, over all inner pixels, of the sum of the four neighbours less four times the pixel
/// itself; `None` if there are no inner pixels.
pub(super) fn sharpness(luma: &GrayImage) -> Option<f64> {
    let width = luma.width() as usize;
    let rows: Vec<&[u8]> = luma.chunks_exact(width.max(1)).collect();
    let (mut count, mut sum, mut squares) = (0_u32, 0_i64, 0_i64);
    for window in rows.windows(3) {
        let &[above, here, below] = window else {
            continue;
        };
        for x in 1..width.saturating_sub(1) {
            let [up, left, middle, right, down] =
                [above[x], here[x - 1], here[x], here[x + 1], below[x]].map(i64::from);
            let laplacian = up + left + right + down - 4 * middle;
            count += 1;
            sum += laplacian;
            squares += laplacian * laplacian;
        }
    }
    if count == 0 {
        return None;
    }
    // Below 2^53 even if every pixel of a small image were as far out as can be.
    #[allow(clippy::cast_precision_loss)]
    let [sum, squares] = [sum as f64, squares as f64];
    let count = f64::from(count);
    let mean = sum / count;
    Some(hundredths((squares / count - mean * mean).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&[u8]]) -> Option<f64> {
        let width = u32::try_from(rows[0].len()).unwrap();
        let height = u32::try_from(rows.len()).unwrap();
        sharpness(&GrayImage::from_raw(width, height, rows.concat()).unwrap())
    }

    #[test]
    fn the_variance_of_the_laplacian() {
        let flat: [&[u8]; 5] = [&[9; 5]; 5];
        assert_eq!(of(&flat), Some(0.0));
        // A slope is no edge.
        assert_eq!(
            of(&[&[0, 10, 20, 30], &[0, 10, 20, 30], &[0, 10, 20, 30]]),
            Some(0.0)
        );
        // Laplacians -40 and 10: mean -15, variance 625.
        let rows: [&[u8]; 3] = [&[0, 0, 0, 0], &[0, 10, 0, 0], &[0, 0, 0, 0]];
        assert_eq!(of(&rows), Some(625.0));
        assert_eq!(of(&[&[1, 2], &[3, 4]]), None);
    }
}
