//! Header, limits, completeness, decoding, shrinking, measuring: in this order.

use crate::{
    AnalysisError, ColorType, Format, View,
    container::{self, Header},
    decode::{self, Decoded, Flaw},
    exif,
    measure::Looks,
    picture::Picture,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use image::RgbImage;
use imgsys_types::{Exif, Properties};

/// What this crate makes of the same bytes without a classifier; to be raised when that changes.
pub const VERSION: u32 = 1;

/// What an image may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most pixels.
    pub max_pixels: u64,
    /// The longest side, in pixels.
    pub max_side: u32,
    /// The most memory that decoding may take, in bytes, working memory included.
    pub max_decode_memory: u64,
}

/// How deep an image is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Format, size, EXIF, limits, and whether the file is complete by its structure:
    /// microseconds. Damage within the pixels' data is not seen.
    Header,
    /// All pixels, and the checksums of a PNG.
    Full,
}

/// How images are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What an image may cost.
    pub limits: Limits,
    /// How deep it is looked into.
    pub depth: Depth,
    /// Keep the place where a photograph was taken, which is dropped otherwise.
    pub keep_gps: bool,
}

/// What an image is, without a classifier's help.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The format, told by content.
    pub format: Format,
    /// Pixels across, once the image is turned upright.
    pub width: u32,
    /// Pixels down, once the image is turned upright.
    pub height: u32,
    /// What a pixel is in the file.
    pub color_type: ColorType,
    /// Bits of a sample, or of an index into the palette.
    pub bit_depth: u8,
    /// Frames of an animation, or pages. What else is found is of the first.
    pub frames: u32,
    /// What the camera wrote into the file.
    pub exif: Option<Exif>,
    /// What was measured on the pixels; `None` at [`Depth::Header`].
    pub looks: Option<Looks>,
    /// Why the decoder had to make up a part of the picture, if it had to.
    pub flaw: Option<Flaw>,
}

impl Inspection {
    /// The part of an analysis that comes from here.
    #[must_use]
    pub fn properties(&self) -> Properties {
        let file = Properties {
            format: self.format.as_str().into(),
            width: self.width,
            height: self.height,
            color_type: Some(self.color_type.as_str().into()),
            bit_depth: Some(self.bit_depth),
            frames: Some(self.frames),
            exif: self.exif.clone(),
            ..Properties::default()
        };
        let Some(looks) = &self.looks else {
            return file;
        };
        let mut flags = looks.flags.clone();
        flags.extend(self.flaw.map(Flaw::flag));
        flags.sort_unstable();
        Properties {
            sharpness: looks.sharpness,
            exposure: Some(looks.exposure),
            colors: looks.colors.clone(),
            perceptual_hash: looks.perceptual_hash,
            thumb_hash: Some(BASE64_STANDARD.encode(&looks.thumb_hash)),
            flags: flags.into_iter().map(str::to_owned).collect(),
            ..file
        }
    }
}

/// Looks into an image. Nothing is decoded, nor memory taken for it, unless the header keeps to
/// the limits. A decoder may panic on hostile bytes: the owner of the thread must catch that.
pub fn inspect(bytes: &[u8], options: &Options) -> Result<Inspection, AnalysisError> {
    inspect_for(bytes, options, None).map(|(inspection, _)| inspection)
}

/// What [`inspect`](inspect()) does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Format, size, limits, EXIF, and whether the structure is complete.
    Header,
    /// Bytes made into pixels.
    Decode,
    /// The full picture made into the small one, upright.
    Shrink,
    /// What the small picture shows.
    Measure,
}

/// Looks into an image and says when a stage is over: for measuring them.
pub fn inspect_in_stages(
    bytes: &[u8],
    options: &Options,
    over: impl FnMut(Stage),
) -> Result<Inspection, AnalysisError> {
    staged(bytes, options, None, over).map(|(inspection, _)| inspection)
}

/// The same, with what a classifier wants to see, if it wants to. The full picture is gone when
/// this returns.
pub(crate) fn inspect_for(
    bytes: &[u8],
    options: &Options,
    view: Option<View>,
) -> Result<(Inspection, Option<RgbImage>), AnalysisError> {
    staged(bytes, options, view, |_| {})
}

fn staged(
    bytes: &[u8],
    options: &Options,
    view: Option<View>,
    mut over: impl FnMut(Stage),
) -> Result<(Inspection, Option<RgbImage>), AnalysisError> {
    let limits = &options.limits;
    let depth = if view.is_some() {
        Depth::Full
    } else {
        options.depth
    };
    let format = Format::of(bytes).map_err(|content| AnalysisError::NoImage { content })?;
    let header = container::header(format, bytes)?;
    limits.check(&header)?;
    let frames = container::check_complete(format, bytes, depth)?;
    let (width, height) = header.upright();
    let mut inspection = Inspection {
        format,
        width,
        height,
        color_type: header.color_type,
        bit_depth: header.bit_depth,
        frames,
        exif: header
            .exif
            .and_then(|block| exif::read(block, options.keep_gps)),
        looks: None,
        flaw: None,
    };
    over(Stage::Header);
    if depth == Depth::Header {
        return Ok((inspection, None));
    }
    let Decoded { pixels, flaw } = decode::decode(format, &header, bytes, limits)?;
    inspection.flaw = flaw;
    over(Stage::Decode);
    let picture = Picture::new(pixels, header.orientation);
    let small = picture.small()?;
    let seen = view.map(|view| picture.view(view, &small)).transpose()?;
    drop(picture);
    over(Stage::Shrink);
    inspection.looks = Some(Looks::of(&small)?);
    over(Stage::Measure);
    Ok((inspection, seen))
}

impl Limits {
    fn check(&self, header: &Header<'_>) -> Result<(), AnalysisError> {
        let &Header { width, height, .. } = header;
        if width.max(height) > self.max_side {
            return Err(AnalysisError::SideTooLong {
                width,
                height,
                limit: self.max_side,
            });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(AnalysisError::TooManyPixels {
                width,
                height,
                limit: self.max_pixels,
            });
        }
        if pixels.saturating_mul(header.bytes_per_pixel) > self.max_decode_memory {
            return Err(self.too_much_memory(header));
        }
        Ok(())
    }

    pub(crate) const fn too_much_memory(&self, header: &Header<'_>) -> AnalysisError {
        AnalysisError::TooMuchMemory {
            width: header.width,
            height: header.height,
            limit: self.max_decode_memory,
        }
    }
}
