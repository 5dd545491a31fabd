//! PNG (W3C): a signature, then chunks of length, type, data and CRC, from `IHDR` to `IEND`.

use super::{Flaw, Header, Scan, exif_orientation, scan::offset};
use crate::Depth;
use image::metadata::Orientation;

const SIGNATURE: usize = 8;

struct Chunk<'a> {
    kind: &'a [u8],
    data: &'a [u8],
    /// Type and data, which the CRC covers.
    covered: &'a [u8],
    crc: u32,
}

fn next_chunk<'a>(scan: &mut Scan<'a>) -> Result<Chunk<'a>, Flaw> {
    let length = offset(scan.u32_be()?);
    let covered = scan.take(length.saturating_add(4))?;
    let (kind, data) = covered.split_at(4);
    let crc = scan.u32_be()?;
    Ok(Chunk {
        kind,
        data,
        covered,
        crc,
    })
}

pub(super) fn header(bytes: &[u8]) -> Result<Header, Flaw> {
    let mut scan = Scan::at(bytes, SIGNATURE, "its header");
    let first = next_chunk(&mut scan)?;
    if first.kind != b"IHDR" {
        return Err(Flaw::corrupt("it does not begin with IHDR"));
    }
    let mut fields = Scan::at(first.data, 0, "IHDR");
    let (width, height) = (fields.u32_be()?, fields.u32_be()?);
    let (bits, colour) = (fields.u8()?, fields.u8()?);
    if width.max(height) > i32::MAX.unsigned_abs() {
        return Err(Flaw::corrupt("its sides are longer than PNG allows"));
    }
    // Grey and colours may get a channel for transparency; palettes become colours.
    let channels = if matches!(colour, 0 | 4) { 2 } else { 4 };
    Ok(Header {
        width,
        height,
        bytes_per_pixel: channels * if bits == 16 { 2 } else { 1 },
        orientation: orientation(scan),
    })
}

/// From the `eXIf` chunk, if there is one before the pixels.
fn orientation(mut scan: Scan<'_>) -> Orientation {
    while let Ok(chunk) = next_chunk(&mut scan) {
        match chunk.kind {
            b"eXIf" => return exif_orientation(chunk.data),
            b"IDAT" => break,
            _ => {}
        }
    }
    Orientation::NoTransforms
}

/// `IEND` must follow at least one `IDAT`; at full depth the CRC of each critical chunk is right.
/// (A wrong one in a chunk that decoders may pass over says nothing of the pixels.)
pub(super) fn check_complete(bytes: &[u8], depth: Depth) -> Result<(), Flaw> {
    let mut scan = Scan::at(bytes, SIGNATURE, "a chunk");
    let mut has_pixels = false;
    loop {
        if scan.rest().is_empty() {
            return Err(Flaw::truncated("its IEND chunk is missing"));
        }
        let chunk = next_chunk(&mut scan)?;
        let critical = chunk.kind[0].is_ascii_uppercase();
        if depth == Depth::Full && critical && crc32fast::hash(chunk.covered) != chunk.crc {
            let kind = chunk.kind.escape_ascii();
            return Err(Flaw::corrupt(format!("the checksum of {kind} is wrong")));
        }
        match chunk.kind {
            b"IDAT" => has_pixels = true,
            b"IEND" if has_pixels => return Ok(()),
            b"IEND" => return Err(Flaw::corrupt("it has no pixels' data")),
            _ => {}
        }
    }
}
