//! Windows bitmap: a file header, an information header of one of several lengths, perhaps a
//! palette, and the rows, each padded to four bytes.

use super::{ColorType, Flaw, Header, Scan};
use image::metadata::Orientation;

/// Where the information header begins.
const INFO: usize = 14;
/// The length of the oldest information header, with sides of 16 bits.
const CORE: u32 = 12;

struct Info {
    width: u32,
    height: u32,
    bits: u16,
    compression: u32,
}

fn info(bytes: &[u8]) -> Result<Info, Flaw> {
    let mut scan = Scan::at(bytes, INFO, "its header");
    if scan.u32_le()? == CORE {
        let (width, height) = (scan.u16_le()?.into(), scan.u16_le()?.into());
        let [_, _, bits, _] = scan.array()?;
        return Ok(Info {
            width,
            height,
            bits: bits.into(),
            compression: 0,
        });
    }
    let (width, height) = (scan.i32_le()?, scan.i32_le()?);
    if width < 0 {
        return Err(Flaw::corrupt("its width is negative"));
    }
    scan.u16_le()?;
    Ok(Info {
        width: width.unsigned_abs(),
        // A negative height: rows from the top down.
        height: height.unsigned_abs(),
        bits: scan.u16_le()?,
        compression: scan.u32_le()?,
    })
}

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
    let info = info(bytes)?;
    if !matches!(info.bits, 1 | 2 | 4 | 8 | 16 | 24 | 32) {
        return Err(Flaw::corrupt(format!("{} bits a pixel", info.bits)));
    }
    let (color_type, bit_depth) = match info.bits {
        bits @ ..=8 => (ColorType::Palette, u8::try_from(bits).unwrap_or(8)),
        16 => (ColorType::Rgb, 5),
        _ => (ColorType::Rgb, 8),
    };
    Ok(Header {
        width: info.width,
        height: info.height,
        bytes_per_pixel: 4,
        orientation: Orientation::NoTransforms,
        color_type,
        bit_depth,
        exif: None,
    })
}

/// All rows must be there. How long compressed ones are only the decoder can tell; the length in
/// the file header is wrong too often to go by.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), Flaw> {
    let info = info(bytes)?;
    let start = Scan::at(bytes, 10, "its header").u32_le()?;
    let row_bits = u64::from(info.width) * u64::from(info.bits);
    let data = match info.compression {
        // Plain, or with bit masks.
        0 | 3 | 6 => {
            let padded_row = row_bits.div_ceil(32) * 4;
            // The last row's padding is sometimes left out.
            padded_row
                .saturating_mul(u64::from(info.height.saturating_sub(1)))
                .saturating_add(row_bits.div_ceil(8))
        }
        1 | 2 => 1,
        4 => return Err(Flaw::unsupported("a JPEG within a BMP")),
        5 => return Err(Flaw::unsupported("a PNG within a BMP")),
        other => return Err(Flaw::unsupported(format!("compression {other}"))),
    };
    let end = u64::from(start).saturating_add(data);
    let missing = end.saturating_sub(bytes.len() as u64);
    if missing > 0 {
        return Err(Flaw::truncated(format!(
            "the last {missing} bytes are missing"
        )));
    }
    Ok(())
}
