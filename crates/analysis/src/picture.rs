//! The decoded picture, and the smaller ones made of it.
//!
//! Everything that looks at pixels looks at small ones. The full picture is shrunk in the form in
//! which it was decoded (grey, 16 bits, with alpha…), without a copy, and dropped; only what is
//! small is made 8-bit RGB and turned upright.

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, GrayImage, RgbImage, imageops, metadata::Orientation};

/// The shorter side of the small image, in pixels. Images that are smaller stay as they are.
pub(crate) const SMALL_SIDE: u32 = 256;
/// The longer side of the small image is at most this many times the shorter one.
const LONGEST: u32 = 8;

/// Why an image could not be resized.
#[derive(Debug, thiserror::Error)]
#[error("resizing an image to {width} x {height} pixels: {source}")]
pub struct ResizeError {
    width: u32,
    height: u32,
    #[source]
    source: fast_image_resize::ResizeError,
}

/// The part of a picture that a classifier wants to see, as a square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum View {
    /// The centre: a square of this share of the shorter side (above 0, at most 1).
    Crop {
        /// The square's side when it is seen, in pixels.
        side: u32,
        /// The share.
        share: f64,
    },
    /// The whole picture, squeezed.
    Squeeze {
        /// The square's side when it is seen, in pixels.
        side: u32,
    },
}

/// A decoded picture, not turned upright yet, on white if it is transparent.
#[derive(Debug)]
pub(crate) struct Picture {
    pixels: DynamicImage,
    orientation: Orientation,
}

impl Picture {
    pub(crate) fn new(mut pixels: DynamicImage, orientation: Orientation) -> Self {
        lay_on_white(&mut pixels);
        Self {
            pixels,
            orientation,
        }
    }

    /// The whole picture, upright, its shorter side [`SMALL_SIDE`] long.
    pub(crate) fn small(&self) -> Result<RgbImage, ResizeError> {
        let (width, height) = small_size(self.pixels.width(), self.pixels.height());
        self.resized(width, height, ResizeOptions::new())
    }

    /// What a classifier wants to see. It comes out of the small image if that fits.
    pub(crate) fn view(&self, view: View, small: &RgbImage) -> Result<RgbImage, ResizeError> {
        match view {
            View::Squeeze { side } => self.resized(side, side, ResizeOptions::new()),
            View::Crop { side, share } => {
                let (width, height) = small.dimensions();
                let shorter = f64::from(width.min(height));
                if (shorter * share - f64::from(side)).abs() < 0.5 && side <= width.min(height) {
                    let (left, top) = ((width - side) / 2, (height - side) / 2);
                    return Ok(imageops::crop_imm(small, left, top, side, side).to_image());
                }
                let [width, height] = [self.pixels.width(), self.pixels.height()].map(f64::from);
                let square = width.min(height) * share;
                let (left, top) = ((width - square) / 2.0, (height - square) / 2.0);
                let options = ResizeOptions::new().crop(left, top, square, square);
                self.resized(side, side, options)
            }
        }
    }

    /// Width and height as seen upright come out swapped if the picture lies on its side, which is
    /// as well for a square, and for the small image as it is meant to be.
    fn resized(
        &self,
        width: u32,
        height: u32,
        options: ResizeOptions,
    ) -> Result<RgbImage, ResizeError> {
        let mut small = DynamicImage::new(width, height, self.pixels.color());
        resize(&self.pixels, &mut small, options)?;
        let mut small = DynamicImage::ImageRgb8(small.into_rgb8());
        small.apply_orientation(self.orientation);
        Ok(small.into_rgb8())
    }
}

/// The bicubic kernel (a = -1/2) as wide as the factor asks for: what Pillow's `BICUBIC` is.
fn resize(
    from: &DynamicImage,
    to: &mut DynamicImage,
    options: ResizeOptions,
) -> Result<(), ResizeError> {
    let (width, height) = (to.width(), to.height());
    // The picture lies on white already: its alpha says nothing any more.
    let options = options
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false);
    let done = Resizer::new().resize(from, to, &options);
    done.map_err(|source| ResizeError {
        width,
        height,
        source,
    })
}

/// The size of the small image of a picture of this size.
fn small_size(width: u32, height: u32) -> (u32, u32) {
    let (shorter, longer) = (width.min(height).max(1), width.max(height).max(1));
    // As a fraction of whole numbers, so that the shorter side is exact.
    let (part, whole) = if shorter >= SMALL_SIDE && longer <= LONGEST * shorter {
        (SMALL_SIDE, shorter)
    } else if longer > LONGEST * SMALL_SIDE {
        (LONGEST * SMALL_SIDE, longer)
    } else {
        return (width, height);
    };
    let shrunk = |side: u32| {
        let (side, part, whole) = (u64::from(side), u64::from(part), u64::from(whole));
        let rounded = (2 * side * part + whole) / (2 * whole);
        u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
    };
    (shrunk(width), shrunk(height))
}

/// An image squeezed into a square of this side.
pub(crate) fn square(image: &GrayImage, side: u32) -> Result<GrayImage, ResizeError> {
    let mut small = DynamicImage::new_luma8(side, side);
    resize(&image.clone().into(), &mut small, ResizeOptions::new())?;
    Ok(small.into_luma8())
}

/// An image whose longer side is at most this long.
pub(crate) fn within(image: &RgbImage, side: u32) -> Result<RgbImage, ResizeError> {
    let (width, height) = image.dimensions();
    let longer = width.max(height);
    if longer <= side {
        return Ok(image.clone());
    }
    let shrunk = |length: u32| ((2 * length * side + longer) / (2 * longer)).max(1);
    let mut small = DynamicImage::new_rgb8(shrunk(width), shrunk(height));
    resize(&image.clone().into(), &mut small, ResizeOptions::new())?;
    Ok(small.into_rgb8())
}

/// Puts white behind what is transparent, in place. Blending before shrinking gives what blending
/// after it would if shrinking heeded alpha, for which it would need a copy.
fn lay_on_white(pixels: &mut DynamicImage) {
    match pixels {
        DynamicImage::ImageLumaA8(image) => blend(image, 2, u8::MAX.into()),
        DynamicImage::ImageRgba8(image) => blend(image, 4, u8::MAX.into()),
        DynamicImage::ImageLumaA16(image) => blend(image, 2, u16::MAX.into()),
        DynamicImage::ImageRgba16(image) => blend(image, 4, u16::MAX.into()),
        DynamicImage::ImageRgba32F(image) => {
            for pixel in image.pixels_mut() {
                let [r, g, b, alpha] = pixel.0;
                pixel.0 = [r, g, b, 1.0].map(|level| level * alpha + 1.0 - alpha);
            }
        }
        _ => {}
    }
}

/// Pixels of so many samples, the last of them alpha.
fn blend<T: Copy + Into<u32> + TryFrom<u32>>(samples: &mut [T], channels: usize, white: u32) {
    for pixel in samples.chunks_exact_mut(channels) {
        let Some((alpha, levels)) = pixel.split_last_mut() else {
            continue;
        };
        let alpha: u32 = (*alpha).into();
        if alpha == white {
            continue;
        }
        for level in levels {
            // At most white squared, which 32 bits hold.
            let sum = (*level).into() * alpha + white * (white - alpha);
            if let Ok(blended) = T::try_from((sum + white / 2) / white) {
                *level = blended;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{LumaA, Rgb, Rgba};

    fn picture(pixels: impl Into<DynamicImage>) -> Picture {
        Picture::new(pixels.into(), Orientation::NoTransforms)
    }

    #[test]
    fn the_small_image_keeps_its_shape_within_bounds() {
        for (size, small) in [
            ((1, 1), (1, 1)),
            ((256, 256), (256, 256)),
            ((640, 427), (384, 256)),
            ((427, 640), (256, 384)),
            ((5640, 3172), (455, 256)),
            ((255, 300), (255, 300)),
            ((300, 20_000), (31, 2048)),
            ((1, 20_000), (1, 2048)),
            ((100, 2000), (100, 2000)),
        ] {
            assert_eq!(small_size(size.0, size.1), small, "{size:?}");
        }
    }

    #[test]
    fn what_is_transparent_lies_on_white() {
        let rgba = image::RgbaImage::from_pixel(3, 3, Rgba([0, 100, 200, 0]));
        assert_eq!(picture(rgba).small().unwrap()[(1, 1)], Rgb([255; 3]));
        let rgba = image::RgbaImage::from_pixel(3, 3, Rgba([0, 100, 255, 51]));
        assert_eq!(picture(rgba).small().unwrap()[(1, 1)], Rgb([204, 224, 255]));
        let gray = image::GrayAlphaImage::from_pixel(3, 3, LumaA([7, 255]));
        assert_eq!(picture(gray).small().unwrap()[(1, 1)], Rgb([7; 3]));
        let wide = image::ImageBuffer::from_pixel(3, 3, Rgba([0_u16, 0, 65_535, 32_768]));
        let small = picture(DynamicImage::ImageRgba16(wide)).small().unwrap();
        assert_eq!(small[(1, 1)], Rgb([127, 127, 255]));
    }

    #[test]
    fn a_view_is_square_and_of_the_centre() {
        let image = RgbImage::from_fn(1000, 500, |x, _| {
            Rgb(if (270..730).contains(&x) {
                [200, 0, 0]
            } else {
                [0, 0, 200]
            })
        });
        let picture = picture(image);
        let small = picture.small().unwrap();
        assert_eq!(small.dimensions(), (512, 256));
        for (side, share) in [(224, 0.875), (112, 0.875), (300, 0.8)] {
            let view = picture.view(View::Crop { side, share }, &small).unwrap();
            assert_eq!(view.dimensions(), (side, side));
            assert!(
                view.pixels().all(|pixel| *pixel == Rgb([200, 0, 0])),
                "{side}"
            );
        }
        let view = picture.view(View::Squeeze { side: 100 }, &small).unwrap();
        assert_eq!(
            (view[(5, 50)], view[(50, 50)]),
            (Rgb([0, 0, 200]), Rgb([200, 0, 0]))
        );
    }

    #[test]
    fn a_view_of_less_than_there_should_be_is_blown_up() {
        let dot = picture(RgbImage::from_pixel(1, 20_000, Rgb([9, 8, 7])));
        let small = dot.small().unwrap();
        let view = View::Crop {
            side: 224,
            share: 0.875,
        };
        let seen = dot.view(view, &small).unwrap();
        assert_eq!(
            (seen.dimensions(), seen[(100, 3)]),
            ((224, 224), Rgb([9, 8, 7]))
        );
    }
}
