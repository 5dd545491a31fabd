//! What can be said of an image without a classifier.

use crate::{
    PerceptualHash,
    bounds::{MAX_COLORS, MAX_EXTRA, MAX_FLAGS, MAX_TEXT, bound_number, bound_percent, bound_text},
    text,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What can be said of an image without a classifier. Only format and size are always there: an
/// analyzer of somebody else's, or one that did not decode the image, may leave the rest out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// The format's name in lower case, told by content: `jpeg png gif webp bmp tiff`.
    #[serde(deserialize_with = "text::one")]
    pub format: String,
    /// Pixels across, once the image is turned upright.
    pub width: u32,
    /// Pixels down, once the image is turned upright.
    pub height: u32,
    /// What a pixel is in the file: `gray gray_alpha rgb rgb_alpha palette cmyk`.
    #[serde(
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub color_type: Option<String>,
    /// Bits of a sample in the file (of an index, if it has a palette).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_depth: Option<u8>,
    /// Frames of an animation, or pages; what else is said here is said of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// The variance of the Laplacian at a normalised size: the higher, the sharper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<f64>,
    /// How light it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// The dominant colours, the commonest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub colors: Vec<Color>,
    /// Hashes of images that look alike differ in few bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual_hash: Option<PerceptualHash>,
    /// A blurred miniature: a `ThumbHash` of some 25 bytes, in Base64.
    #[serde(
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub thumb_hash: Option<String>,
    /// What the camera wrote into the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exif: Option<Exif>,
    /// What is remarkable, such as `blurry` or `dark`, in alphabetical order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Whatever else an analyzer of somebody else's wants to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Scalar>,
}

/// How light an image is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// The mean of the luma, in percent of white.
    pub mean: f64,
    /// Pixels that are black or next to it, in percent.
    pub shadows: f64,
    /// Pixels that are white or next to it, in percent.
    pub highlights: f64,
}

/// A colour of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Color {
    /// The colour in sRGB, as in `#c0ffee`.
    #[serde(deserialize_with = "text::one")]
    pub rgb: String,
    /// Pixels that are closer to it than to the other colours, in percent.
    pub share: f64,
}

/// What the camera wrote into the file (EXIF). Its texts are anybody's word.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exif {
    /// Maker and model of the camera.
    #[serde(
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub camera: Option<String>,
    /// Maker and model of the lens.
    #[serde(
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub lens: Option<String>,
    /// When it was taken, by the camera's clock: `2026-05-01T17:30:00`, with an offset from UTC
    /// behind it if the camera knew.
    #[serde(
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub taken_at: Option<String>,
    /// The exposure time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure_time: Option<f64>,
    /// The f-number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f_number: Option<f64>,
    /// The sensitivity (ISO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iso: Option<u32>,
    /// The focal length, in millimetres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focal_length: Option<f64>,
    /// Where it was taken; dropped unless it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gps: Option<Gps>,
}

/// A place on Earth (WGS 84).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Gps {
    /// Degrees north of the equator.
    pub latitude: f64,
    /// Degrees east of Greenwich.
    pub longitude: f64,
    /// Metres above the sea.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altitude: Option<f64>,
}

/// A single value of [`Properties::extra`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Properties {
    /// Every text in it but the keys of `extra`.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.color_type, &self.thumb_hash];
        let exif = self.exif.iter().flat_map(Exif::texts);
        let optional = optional.into_iter().chain(exif).flatten();
        let colors = self.colors.iter().map(|color| &color.rgb);
        let extra = self.extra.values().filter_map(|value| match value {
            Scalar::Text(text) => Some(text),
            Scalar::Bool(_) | Scalar::Number(_) => None,
        });
        let texts = optional.chain(colors).chain(&self.flags).chain(extra);
        std::iter::once(&self.format)
            .chain(texts)
            .map(|text| &**text)
    }

    /// Changes every text in it, the keys of `extra` included.
    pub fn change_texts(&mut self, change: impl Fn(&mut String)) {
        let optional = [&mut self.color_type, &mut self.thumb_hash];
        let exif = self.exif.iter_mut().flat_map(Exif::texts_mut);
        let optional = optional.into_iter().chain(exif).flatten();
        let colors = self.colors.iter_mut().map(|color| &mut color.rgb);
        for text in optional.chain(colors).chain(&mut self.flags) {
            change(text);
        }
        change(&mut self.format);
        if self.extra.is_empty() {
            return;
        }
        let extra = std::mem::take(&mut self.extra).into_iter();
        let changed = extra.map(|(mut key, mut value)| {
            change(&mut key);
            if let Scalar::Text(text) = &mut value {
                change(text);
            }
            (key, value)
        });
        self.extra = changed.collect();
    }

    pub(crate) fn bound(&mut self) {
        self.colors.truncate(MAX_COLORS);
        self.flags.truncate(MAX_FLAGS);
        if self.extra.len() > MAX_EXTRA {
            let extra = std::mem::take(&mut self.extra);
            self.extra = extra.into_iter().take(MAX_EXTRA).collect();
        }
        self.change_texts(|text| bound_text(text, MAX_TEXT));
        bound_number(&mut self.sharpness);
        if let Some(exposure) = &mut self.exposure {
            bound_percent(&mut exposure.mean);
            bound_percent(&mut exposure.shadows);
            bound_percent(&mut exposure.highlights);
        }
        for color in &mut self.colors {
            bound_percent(&mut color.share);
        }
        if let Some(exif) = &mut self.exif {
            exif.bound();
        }
    }
}

impl Exif {
    fn texts(&self) -> [&Option<String>; 3] {
        [&self.camera, &self.lens, &self.taken_at]
    }

    fn texts_mut(&mut self) -> [&mut Option<String>; 3] {
        [&mut self.camera, &mut self.lens, &mut self.taken_at]
    }

    fn bound(&mut self) {
        for number in [
            &mut self.exposure_time,
            &mut self.f_number,
            &mut self.focal_length,
        ] {
            bound_number(number);
        }
        if let Some(gps) = &mut self.gps {
            bound_number(&mut gps.altitude);
            if !(gps.latitude.is_finite() && gps.longitude.is_finite()) {
                self.gps = None;
            }
        }
    }
}
