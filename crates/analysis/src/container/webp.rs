//! WebP (RFC 9649): a RIFF container of chunks. The first is `VP8 ` (lossy), `VP8L` (lossless), or
//! `VP8X` (extended: animation, EXIF and so on, with the pixels in later chunks).

use super::{ColorType, Flaw, Header, Scan, exif_block, exif_orientation, scan::offset};

/// `RIFF`, length, `WEBP`.
const PREAMBLE: usize = 12;

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

fn next_chunk<'a>(scan: &mut Scan<'a>) -> Result<Chunk<'a>, Flaw> {
    let kind = scan.array()?;
    let length = offset(scan.u32_le()?);
    let data = scan.take(length)?;
    // Chunks are padded to even lengths; some writers forget it after the last.
    if length % 2 == 1 && !scan.rest().is_empty() {
        scan.take(1)?;
    }
    Ok(Chunk { kind, data })
}

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
    let mut scan = Scan::at(bytes, PREAMBLE, "its header");
    let kind: [u8; 4] = scan.array()?;
    let length = scan.u32_le()?;
    let mut exif = None;
    let mut has_alpha = false;
    // Result and working memory: colours as YUV or ARGB beside them; a canvas, if it is animated.
    let mut bytes_per_pixel = 8;
    let (width, height) = match &kind {
        b"VP8 " => {
            let [tag, _, _, s0, s1, s2] = scan.array()?;
            if tag & 1 != 0 || [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
                return Err(Flaw::corrupt("it does not begin with a key frame"));
            }
            let side = |raw: u16| u32::from(raw & 0x3fff);
            (side(scan.u16_le()?), side(scan.u16_le()?))
        }
        b"VP8L" => {
            if scan.u8()? != 0x2f {
                return Err(Flaw::corrupt("its lossless data has no signature"));
            }
            let sides = scan.u32_le()?;
            has_alpha = sides & 1 << 28 != 0;
            ((sides & 0x3fff) + 1, ((sides >> 14) & 0x3fff) + 1)
        }
        b"VP8X" => {
            let [flags, _, _, _] = scan.array()?;
            let sides = (scan.u24_le()? + 1, scan.u24_le()? + 1);
            if flags & 0x08 != 0 {
                exif = exif_chunk(bytes, length);
            }
            has_alpha = flags & 0x10 != 0;
            if flags & 0x02 != 0 {
                bytes_per_pixel = 12;
            }
            sides
        }
        _ => return Err(Flaw::corrupt("it does not begin with an image")),
    };
    Ok(Header {
        width,
        height,
        bytes_per_pixel,
        orientation: exif_orientation(exif),
        color_type: if has_alpha {
            ColorType::RgbAlpha
        } else {
            ColorType::Rgb
        },
        bit_depth: 8,
        exif,
    })
}

fn exif_chunk(bytes: &[u8], first: u32) -> Option<&[u8]> {
    let after = offset(first).saturating_add(PREAMBLE + 8);
    let mut scan = Scan::at(bytes, after, "a chunk");
    while let Ok(chunk) = next_chunk(&mut scan) {
        if &chunk.kind == b"EXIF" {
            return Some(exif_block(chunk.data));
        }
    }
    None
}

/// All that RIFF's length promises must be there, in whole chunks, one with pixels among them.
/// How many frames there are.
pub(super) fn check_complete(bytes: &[u8]) -> Result<u32, Flaw> {
    let mut scan = Scan::at(bytes, 4, "its header");
    let length = offset(scan.u32_le()?);
    if scan.rest().len() < length {
        let missing = length - scan.rest().len();
        return Err(Flaw::truncated(format!(
            "the last {missing} bytes are missing"
        )));
    }
    let mut scan = Scan::at(&scan.rest()[..length], 4, "a chunk");
    let mut frames = 0;
    while !scan.rest().is_empty() {
        let chunk = next_chunk(&mut scan)
            .map_err(|_| Flaw::corrupt("a chunk is longer than the file says to be"))?;
        frames += u32::from(matches!(&chunk.kind, b"VP8 " | b"VP8L" | b"ANMF"));
    }
    if frames == 0 {
        return Err(Flaw::corrupt("it has no pixels' data"));
    }
    Ok(frames)
}
