//! GIF (89a): a screen, then extensions and images as chains of short blocks, then a
//! trailer.

use super::{ColorType, Flaw, Header, Scan};
use image::metadata::Orientation;

const SIGNATURE: usize = 6;
const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
    let mut scan = Scan::at(bytes, SIGNATURE, "its header");
    let (width, height) = (scan.u16_le()?, scan.u16_le()?);
    // A screen cut off here is told by `check_complete`.
    let flags = scan.u8().unwrap_or_default();
    Ok(Header {
        width: width.into(),
        height: height.into(),
        // The screen and a frame on it in RGBA, and the frame's palette indices.
        bytes_per_pixel: 9,
        orientation: Orientation::NoTransforms,
        color_type: ColorType::Palette,
        // Without a palette of the screen, each frame has its own.
        bit_depth: if flags & 0x80 == 0 {
            8
        } else {
            (flags & 7) + 1
        },
        exif: None,
    })
}

/// The trailer must follow at least one image. How many images there are.
pub(super) fn check_complete(bytes: &[u8]) -> Result<u32, Flaw> {
    let mut scan = Scan::at(bytes, SIGNATURE, "its header");
    let [_, _, _, _, flags, _, _] = scan.array()?;
    skip_palette(&mut scan, flags)?;
    let mut images = 0;
    loop {
        if scan.rest().is_empty() {
            return Err(Flaw::truncated("its trailer is missing"));
        }
        match scan.u8()? {
            EXTENSION => {
                scan.reading("an extension");
                scan.u8()?;
            }
            IMAGE => {
                scan.reading("an image");
                let [_, _, _, _, _, _, _, _, flags] = scan.array()?;
                skip_palette(&mut scan, flags)?;
                scan.u8()?;
                images += 1;
            }
            TRAILER if images > 0 => return Ok(images),
            TRAILER => return Err(Flaw::corrupt("there is no image in it")),
            _ => return Err(Flaw::corrupt("an unknown block")),
        }
        skip_blocks(&mut scan)?;
    }
}

fn skip_palette(scan: &mut Scan<'_>, flags: u8) -> Result<(), Flaw> {
    if flags & 0x80 != 0 {
        scan.take(3 << ((flags & 7) + 1))?;
    }
    Ok(())
}

fn skip_blocks(scan: &mut Scan<'_>) -> Result<(), Flaw> {
    loop {
        let length = scan.u8()?;
        if length == 0 {
            return Ok(());
        }
        scan.take(length.into())?;
    }
}
