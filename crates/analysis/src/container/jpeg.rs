//! JPEG (ITU-T T.81): `FF` and a marker, most with a length and a payload; after a scan's header
//! the entropy-coded data, in which `FF` is followed by `00` or a restart marker.

use super::{Flaw, Header, Scan, exif_orientation};
use image::metadata::Orientation;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
/// Stands alone, and means nothing.
const TEM: u8 = 0x01;

/// The markers that follow each other, data between them passed over.
struct Segments<'a> {
    bytes: Scan<'a>,
}

struct Segment<'a> {
    marker: u8,
    payload: &'a [u8],
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Scan::at(bytes, 2, "a segment"),
        }
    }

    /// The next segment; `None` at the end of the bytes.
    fn next(&mut self) -> Result<Option<Segment<'a>>, Flaw> {
        let Some(marker) = self.next_marker() else {
            return Ok(None);
        };
        if matches!(marker, SOI | EOI | TEM) {
            return Ok(Some(Segment {
                marker,
                payload: &[],
            }));
        }
        let length = usize::from(self.bytes.u16_be()?);
        let Some(length) = length.checked_sub(2) else {
            return Err(Flaw::corrupt("a segment's length is below 2"));
        };
        if marker == APP0 && length > self.bytes.rest().len() {
            let name = self.bytes.rest().get(..4);
            if name.is_some_and(|name| !matches!(name, b"JFIF" | b"JFXX" | b"AVI1" | b"CIFF")) {
                return Err(Flaw::corrupt("its first segment is none of JPEG's"));
            }
        }
        let payload = self.bytes.take(length)?;
        Ok(Some(Segment { marker, payload }))
    }

    fn next_marker(&mut self) -> Option<u8> {
        loop {
            let rest = self.bytes.rest();
            let at = memchr::memchr(0xff, rest)?;
            let marker = *rest.get(at + 1)?;
            let is_data = matches!(marker, 0x00 | 0xd0..=0xd7);
            // Any number of FF may precede a marker: the last of them counts.
            let skipped = if marker == 0xff { at + 1 } else { at + 2 };
            self.bytes.take(skipped).ok()?;
            if !is_data && marker != 0xff {
                return Some(marker);
            }
        }
    }
}

pub(super) fn header(bytes: &[u8]) -> Result<Header, Flaw> {
    let mut segments = Segments::of(bytes);
    let mut orientation = Orientation::NoTransforms;
    while let Some(Segment { marker, payload }) = segments.next()? {
        match marker {
            APP1 if payload.starts_with(b"Exif\0\0") => orientation = exif_orientation(payload),
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                return frame_header(marker, payload, orientation);
            }
            SOS | EOI => return Err(Flaw::corrupt("there is no frame header before the pixels")),
            _ => {}
        }
    }
    Err(Flaw::truncated("it ends before the frame header"))
}

fn frame_header(marker: u8, payload: &[u8], orientation: Orientation) -> Result<Header, Flaw> {
    let progressive = match marker {
        0xc0 | 0xc1 => false,
        0xc2 => true,
        0xc3 | 0xc7 | 0xcb | 0xcf => return Err(Flaw::unsupported("lossless JPEG")),
        0xc9..=0xce => return Err(Flaw::unsupported("arithmetic coding")),
        _ => return Err(Flaw::unsupported("hierarchical JPEG")),
    };
    let &[precision, h1, h0, w1, w0, components, ..] = payload else {
        return Err(Flaw::corrupt("its frame header is too short"));
    };
    if precision != 8 {
        return Err(Flaw::unsupported(format!("{precision} bits a sample")));
    }
    let components = u64::from(components);
    // Progressive: all coefficients are kept, 16 bits each. Three bytes is what comes out.
    let coefficients = if progressive { 2 * components } else { 0 };
    Ok(Header {
        width: u16::from_be_bytes([w1, w0]).into(),
        height: u16::from_be_bytes([h1, h0]).into(),
        bytes_per_pixel: components.clamp(1, 3) + coefficients,
        orientation,
    })
}

/// The end marker must follow at least one scan. What comes after it is nobody's concern.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), Flaw> {
    let mut segments = Segments::of(bytes);
    let mut scans = 0;
    while let Some(segment) = segments.next()? {
        match segment.marker {
            SOS => scans += 1,
            EOI if scans > 0 => return Ok(()),
            EOI => return Err(Flaw::corrupt("it has no pixels' data")),
            _ => {}
        }
    }
    Err(Flaw::truncated("its end marker is missing"))
}
