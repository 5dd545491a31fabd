//! Bytes to pixels, within the limits.

use crate::{
    AnalysisError, Format, Limits,
    container::{self, ColorType, Header},
};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, RgbImage};
use std::io::{Cursor, ErrorKind};
use zune_jpeg::{
    JpegDecoder,
    errors::DecodeErrors,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// What came out of a decoder.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The first frame or page, as it is stored.
    pub(crate) pixels: DynamicImage,
    pub(crate) flaw: Option<Flaw>,
}

/// Why a part of a picture had to be made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its data is against the standard somewhere.
    Damaged,
    /// Its data ends before the picture does, though the file has an end.
    Truncated,
}

impl Flaw {
    /// The flag that it raises.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Truncated => "truncated",
        }
    }
}

/// Stands in for a JPEG's end marker, so that a decoder that needs more than there is can be told
/// from one that is done: it reads up to 8 bytes ahead, and a marker that does not exist ends it.
const NO_MORE: [u8; 18] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x02];

pub(crate) fn decode(
    format: Format,
    header: &Header<'_>,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Decoded, AnalysisError> {
    match format {
        Format::Jpeg => jpeg(header, bytes),
        Format::Png | Format::Gif | Format::WebP | Format::Bmp | Format::Tiff => {
            other(format, header, bytes, limits)
        }
    }
}

/// Strictly at first. What does not bear that is decoded once more as browsers do it, with grey
/// where nothing came: that shows what there is, and is told.
fn jpeg(header: &Header<'_>, bytes: &[u8]) -> Result<Decoded, AnalysisError> {
    let survey = container::jpeg_survey(bytes)?;
    let image = bytes.get(..survey.end).unwrap_or(bytes);
    // Elsewhere decoders look for a marker at the end of a scan or interval. But then the walk has
    // counted scans and intervals.
    let probe = survey.is_plain.then(|| [image, &NO_MORE].concat());
    let strict = jpeg_pixels(header, probe.as_deref().unwrap_or(bytes), true);
    drop(probe);
    let flaw = match strict {
        Ok(pixels) if survey.has_all => return Ok(Decoded { pixels, flaw: None }),
        Err(
            error @ (AnalysisError::UnsupportedKind { .. } | AnalysisError::TooMuchMemory { .. }),
        ) => return Err(error),
        Ok(_) => Flaw::Truncated,
        Err(_) if jpeg_pixels(header, bytes, true).is_ok() => Flaw::Truncated,
        Err(_) => Flaw::Damaged,
    };
    Ok(Decoded {
        pixels: jpeg_pixels(header, bytes, false)?,
        flaw: Some(flaw),
    })
}

fn jpeg_pixels(
    header: &Header<'_>,
    bytes: &[u8],
    strict: bool,
) -> Result<DynamicImage, AnalysisError> {
    let format = Format::Jpeg;
    let color = match header.color_type {
        ColorType::Gray => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(color);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let failed = |error| match error {
        DecodeErrors::Unsupported(what) => AnalysisError::UnsupportedKind {
            format,
            detail: format!("{what:?}").into(),
        },
        error => AnalysisError::Undecodable {
            format,
            source: error.into(),
        },
    };
    decoder.decode_headers().map_err(failed)?;
    let seen = decoder.info().map(|info| (info.width, info.height));
    check_size(format, header, seen.map(|(w, h)| (w.into(), h.into())))?;
    let samples = if color == ColorSpace::Luma { 1 } else { 3 };
    let length = u64::from(header.width) * u64::from(header.height) * samples;
    // Within the limits, which were checked.
    let mut pixels = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    decoder.decode_into(&mut pixels).map_err(failed)?;
    let (width, height) = (header.width, header.height);
    let image = if color == ColorSpace::Luma {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    image.ok_or_else(|| two_sizes(format))
}

/// All other formats, through the `image` crate.
fn other(
    format: Format,
    header: &Header<'_>,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Decoded, AnalysisError> {
    let failed = |error| decoder_error(format, header, limits, error);
    let mut codec_limits = image::Limits::no_limits();
    codec_limits.max_image_width = Some(limits.max_side);
    codec_limits.max_image_height = Some(limits.max_side);
    codec_limits.max_alloc = Some(limits.max_decode_memory);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.codec());
    reader.limits(codec_limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    check_size(format, header, Some(decoder.dimensions()))?;
    codec_limits
        .reserve(decoder.total_bytes())
        .map_err(failed)?;
    decoder.set_limits(codec_limits).map_err(failed)?;
    Ok(Decoded {
        pixels: DynamicImage::from_decoder(decoder).map_err(failed)?,
        flaw: None,
    })
}

/// Two readers that see different sizes in one file: its maker wants one of them fooled.
fn check_size(
    format: Format,
    header: &Header<'_>,
    seen: Option<(u32, u32)>,
) -> Result<(), AnalysisError> {
    if seen == Some((header.width, header.height)) {
        Ok(())
    } else {
        Err(two_sizes(format))
    }
}

fn two_sizes(format: Format) -> AnalysisError {
    AnalysisError::Corrupt {
        format,
        detail: "it names two sizes".into(),
    }
}

fn decoder_error(
    format: Format,
    header: &Header<'_>,
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
        error @ (ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::IoError(_)) => AnalysisError::Undecodable {
            format,
            source: error.into(),
        },
    }
}
