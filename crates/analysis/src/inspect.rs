//! Header, limits, completeness, decoding: in this order.

use crate::{
    AnalysisError, Format,
    container::{self, Header},
};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, metadata::Orientation};
use imgsys_types::Properties;
use std::{
    collections::BTreeMap,
    io::{Cursor, ErrorKind},
};

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
    /// Format, size, limits, and whether the file is complete by its structure: microseconds.
    /// Damage within the pixels' data is not seen.
    Header,
    /// All pixels, and the checksums of a PNG.
    Full,
}

/// What an image is, without a classifier's help.
#[derive(Debug)]
pub struct Inspection {
    /// The format, told by content.
    pub format: Format,
    /// Pixels across, once the image is turned upright.
    pub width: u32,
    /// Pixels down, once the image is turned upright.
    pub height: u32,
    /// How [`Inspection::pixels`] must be turned to be upright (EXIF).
    pub orientation: Orientation,
    /// The pixels as they are stored, not turned yet: turning a shrunk copy is cheaper. The first
    /// frame or page, if there are several; `None` at [`Depth::Header`].
    pub pixels: Option<DynamicImage>,
}

impl Inspection {
    /// The part of an analysis that comes from here.
    #[must_use]
    pub fn properties(&self) -> Properties {
        Properties {
            format: self.format.as_str().into(),
            width: self.width,
            height: self.height,
            extra: BTreeMap::new(),
        }
    }
}

/// Looks into an image. Nothing is decoded, nor memory taken for it, unless the header keeps to
/// the limits. A decoder may panic on hostile bytes: the owner of the thread must catch that.
pub fn inspect(bytes: &[u8], limits: &Limits, depth: Depth) -> Result<Inspection, AnalysisError> {
    let format = Format::of(bytes).map_err(|content| AnalysisError::NoImage { content })?;
    let header = container::header(format, bytes)?;
    limits.check(&header)?;
    container::check_complete(format, bytes, depth)?;
    let pixels = match depth {
        Depth::Header => None,
        Depth::Full => Some(decode(format, &header, bytes, limits)?),
    };
    let (width, height) = header.upright();
    Ok(Inspection {
        format,
        width,
        height,
        orientation: header.orientation,
        pixels,
    })
}

impl Limits {
    fn check(&self, header: &Header) -> Result<(), AnalysisError> {
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

    const fn too_much_memory(&self, header: &Header) -> AnalysisError {
        AnalysisError::TooMuchMemory {
            width: header.width,
            height: header.height,
            limit: self.max_decode_memory,
        }
    }
}

fn decode(
    format: Format,
    header: &Header,
    bytes: &[u8],
    limits: &Limits,
) -> Result<DynamicImage, AnalysisError> {
    let failed = |error| decoder_error(format, header, limits, error);
    let mut codec_limits = image::Limits::no_limits();
    codec_limits.max_image_width = Some(limits.max_side);
    codec_limits.max_image_height = Some(limits.max_side);
    codec_limits.max_alloc = Some(limits.max_decode_memory);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.codec());
    reader.limits(codec_limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    // Two readers that see different sizes in one file: its maker wants one of them fooled.
    if decoder.dimensions() != (header.width, header.height) {
        return Err(AnalysisError::Corrupt {
            format,
            detail: "it names two sizes".into(),
        });
    }
    codec_limits
        .reserve(decoder.total_bytes())
        .map_err(failed)?;
    decoder.set_limits(codec_limits).map_err(failed)?;
    DynamicImage::from_decoder(decoder).map_err(failed)
}

fn decoder_error(
    format: Format,
    header: &Header,
    limits: &Limits,
    error: ImageError,
) -> AnalysisError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            AnalysisError::Truncated {
                format,
                detail: "the pixels' data ends too early".into(),
            }
        }
        ImageError::Limits(_) => limits.too_much_memory(header),
        ImageError::Unsupported(error) => AnalysisError::UnsupportedKind {
            format,
            detail: error.to_string().into(),
        },
        source @ (ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::IoError(_)) => AnalysisError::Undecodable { format, source },
    }
}
