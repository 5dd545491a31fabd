//! PNG (W3C): a signature, then chunks of length, type, data and CRC, from `IHDR` to `IEND`.

use super::{ColorType, Flaw, Header, Scan, exif_block, exif_orientation, scan::offset};
use crate::Depth;

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

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
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
    let color_type = match colour {
        0 => ColorType::Gray,
        2 => ColorType::Rgb,
        3 => ColorType::Palette,
        4 => ColorType::GrayAlpha,
        6 => ColorType::RgbAlpha,
        other => return Err(Flaw::corrupt(format!("there is no colour type {other}"))),
    };
    let exif = exif(scan);
    // Grey and colours may get a channel for transparency; palettes become colours.
    let channels = if matches!(colour, 0 | 4) { 2 } else { 4 };
    Ok(Header {
        width,
        height,
        bytes_per_pixel: channels * if bits == 16 { 2 } else { 1 },
        orientation: exif_orientation(exif),
        color_type,
        bit_depth: bits,
        exif,
    })
}

/// The `eXIf` chunk, if there is one before the pixels.
fn exif(mut scan: Scan<'_>) -> Option<&[u8]> {
    while let Ok(chunk) = next_chunk(&mut scan) {
        match chunk.kind {
            b"eXIf" => return Some(exif_block(chunk.data)),
            b"IDAT" => break,
            _ => {}
        }
    }
    None
}

/// `IEND` must follow at least one `IDAT`; at full depth the CRC of each critical chunk is right.
/// (A wrong one in a chunk that decoders may pass over says nothing of the pixels.) How many frames
/// there are: each of an animation has an `fcTL`.
pub(super) fn check_complete(bytes: &[u8], depth: Depth) -> Result<u32, Flaw> {
    let mut scan = Scan::at(bytes, SIGNATURE, "a chunk");
    let mut has_pixels = false;
    let mut frames = 0_u32;
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
            b"fcTL" => frames += 1,
            b"IEND" if has_pixels => return Ok(frames.max(1)),
            b"IEND" => return Err(Flaw::corrupt("it has no pixels' data")),
            _ => {}
        }
    }
}
