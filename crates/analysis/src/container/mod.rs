//! Each format's header and structure, read by our own eyes: without decoding, without allocating.
//!
//! Decoders pass over a missing end in silence, and some take memory on the header's word; so the
//! size is read here first, and here it is told whether the file is complete. [`header`] reads no
//! further than the size; [`check_complete`] goes from block to block to the end. Nothing here
//! can panic or run for longer than the file is long: every read is bounds-checked ([`Scan`],
//! [`File`]).

mod bmp;
mod gif;
mod ifd;
mod jpeg;
mod png;
mod scan;
mod tiff;
mod webp;

use crate::{AnalysisError, Depth, Format};
pub(crate) use ifd::{Entry, File};
use image::metadata::Orientation;
use scan::Scan;
use std::borrow::Cow;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    /// Pixels across, as stored.
    pub(crate) width: u32,
    /// Pixels down, as stored.
    pub(crate) height: u32,
    /// How much memory decoding takes for each pixel, at most: the result and working memory.
    pub(crate) bytes_per_pixel: u64,
    /// How the image must be turned to be upright.
    pub(crate) orientation: Orientation,
    /// What a pixel is in the file.
    pub(crate) color_type: ColorType,
    /// Bits of a sample, or of an index into the palette.
    pub(crate) bit_depth: u8,
    /// The block of EXIF data, a TIFF file of its own.
    pub(crate) exif: Option<&'a [u8]>,
}

/// What a pixel is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorType {
    /// A shade of grey.
    Gray,
    /// A shade of grey, and how opaque it is.
    GrayAlpha,
    /// Red, green and blue, however they are written.
    Rgb,
    /// Red, green and blue, and how opaque they are.
    RgbAlpha,
    /// One of the colours of a palette.
    Palette,
    /// The four inks of printing.
    Cmyk,
}

impl ColorType {
    /// The name, as results bear it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::GrayAlpha => "gray_alpha",
            Self::Rgb => "rgb",
            Self::RgbAlpha => "rgb_alpha",
            Self::Palette => "palette",
            Self::Cmyk => "cmyk",
        }
    }
}

impl Header<'_> {
    /// Width and height once the image is turned upright.
    pub(crate) const fn upright(&self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height, self.width),
            Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical => (self.width, self.height),
        }
    }
}

/// What is wrong with a file's structure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Truncated(Cow<'static, str>),
    Corrupt(Cow<'static, str>),
    Unsupported(Cow<'static, str>),
}

impl Flaw {
    fn truncated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Truncated(detail.into())
    }

    fn corrupt(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt(detail.into())
    }

    fn unsupported(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported(detail.into())
    }

    fn of(self, format: Format) -> AnalysisError {
        match self {
            Self::Truncated(detail) => AnalysisError::Truncated { format, detail },
            Self::Corrupt(detail) => AnalysisError::Corrupt { format, detail },
            Self::Unsupported(detail) => AnalysisError::UnsupportedKind { format, detail },
        }
    }
}

/// Reads the size, and what else the header says.
pub(crate) fn header(format: Format, bytes: &[u8]) -> Result<Header<'_>, AnalysisError> {
    let header = match format {
        Format::Jpeg => jpeg::header(bytes),
        Format::Png => png::header(bytes),
        Format::Gif => gif::header(bytes),
        Format::WebP => webp::header(bytes),
        Format::Bmp => bmp::header(bytes),
        Format::Tiff => tiff::header(bytes),
    };
    let header = header.map_err(|flaw| flaw.of(format))?;
    if header.width == 0 || header.height == 0 {
        return Err(Flaw::corrupt("it has no pixels").of(format));
    }
    Ok(header)
}

/// Whether everything is there that the structure promises, up to its end. Returns how many frames
/// or pages there are.
pub(crate) fn check_complete(
    format: Format,
    bytes: &[u8],
    depth: Depth,
) -> Result<u32, AnalysisError> {
    match format {
        Format::Jpeg => jpeg::check_complete(bytes).map(|()| 1),
        Format::Png => png::check_complete(bytes, depth),
        Format::Gif => gif::check_complete(bytes),
        Format::WebP => webp::check_complete(bytes),
        Format::Bmp => bmp::check_complete(bytes).map(|()| 1),
        Format::Tiff => tiff::check_complete(bytes),
    }
    .map_err(|flaw| flaw.of(format))
}

/// What a walk over a whole JPEG shows.
pub(crate) fn jpeg_survey(bytes: &[u8]) -> Result<jpeg::Survey, AnalysisError> {
    jpeg::survey(bytes).map_err(|flaw| flaw.of(Format::Jpeg))
}

/// The block of EXIF data without the preamble that it has in JPEG, and sometimes elsewhere.
fn exif_block(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes)
}

fn exif_orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}
