//! TIFF 6.0 and `BigTIFF`: a directory for each page, chained by offsets; the pixels lie in strips
//! or tiles anywhere in the file.

use super::{
    ColorType, Flaw, Header,
    ifd::{Entry, File},
};
use image::metadata::Orientation;

const KIND: u16 = 254;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const STRIP_LENGTHS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_LENGTHS: u16 = 325;
const SUB_DIRECTORIES: u16 = 330;
const DNG_VERSION: u16 = 50706;

/// What counts of a directory's entries.
#[derive(Default)]
struct Page {
    width: Option<Entry>,
    height: Option<Entry>,
    bits: Option<Entry>,
    photometric: Option<Entry>,
    samples: Option<Entry>,
    orientation: Option<Entry>,
    offsets: Option<Entry>,
    lengths: Option<Entry>,
    kind: Option<Entry>,
    has_sub_directories: bool,
    is_dng: bool,
    next: u64,
    /// How long the directory is, in bytes.
    length: u64,
}

impl Page {
    fn at(file: &File<'_>, at: u64) -> Result<Self, Flaw> {
        let directory = file.directory(at)?;
        let mut page = Self {
            next: directory.next,
            length: directory.length,
            ..Self::default()
        };
        for entry in file.entries(directory) {
            page.note(entry?);
        }
        Ok(page)
    }

    fn note(&mut self, entry: Entry) {
        let place = match entry.tag {
            KIND => &mut self.kind,
            WIDTH => &mut self.width,
            HEIGHT => &mut self.height,
            BITS => &mut self.bits,
            PHOTOMETRIC => &mut self.photometric,
            SAMPLES => &mut self.samples,
            ORIENTATION => &mut self.orientation,
            STRIP_OFFSETS | TILE_OFFSETS => &mut self.offsets,
            STRIP_LENGTHS | TILE_LENGTHS => &mut self.lengths,
            SUB_DIRECTORIES => {
                self.has_sub_directories = true;
                return;
            }
            DNG_VERSION => {
                self.is_dng = true;
                return;
            }
            _ => return,
        };
        place.get_or_insert(entry);
    }

    fn check(&self, file: &File<'_>) -> Result<(), Flaw> {
        let Some(offsets) = self.offsets else {
            return Err(Flaw::corrupt("it has no pixels' data"));
        };
        // Without lengths the decoder finds the end.
        let Some(lengths) = self.lengths else {
            return Ok(());
        };
        for index in 0..offsets.count.min(lengths.count) {
            let start = file.value(offsets, index)?;
            let end = start.saturating_add(file.value(lengths, index)?);
            if end > file.len() {
                return Err(Flaw::truncated("pixels' data lies beyond the end"));
            }
        }
        Ok(())
    }
}

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
    let file = File::of(bytes);
    let page = Page::at(&file, file.first()?)?;
    if page.is_dng {
        return Err(Flaw::unsupported("a camera's raw file (DNG)"));
    }
    let first =
        |entry: Option<Entry>, default| entry.map_or(Ok(default), |entry| file.value(entry, 0));
    let photometric = first(page.photometric, 1)?;
    // What a sensor saw through its colour filters, or made linear.
    if matches!(photometric, 32_803 | 34_892) {
        return Err(Flaw::unsupported("a camera's raw file"));
    }
    // NEF, ARW and their like: what comes first is a preview, the photograph hangs below it.
    if page.has_sub_directories && first(page.kind, 0)? & 1 == 1 {
        return Err(Flaw::unsupported(
            "a camera's raw file, or another that has only a preview as its first page",
        ));
    }
    let side = |entry| {
        let value = first(entry, 0)?;
        u32::try_from(value).map_err(|_| Flaw::corrupt("its sides are longer than TIFF allows"))
    };
    let bits = first(page.bits, 1)?;
    let samples = first(page.samples, 1)?;
    let pixel_bytes = bits.div_ceil(8).saturating_mul(samples);
    let turned = first(page.orientation, 1)?;
    let orientation = u8::try_from(turned).ok().and_then(Orientation::from_exif);
    Ok(Header {
        width: side(page.width)?,
        height: side(page.height)?,
        // The result, and as much again while a strip is unpacked.
        bytes_per_pixel: pixel_bytes.saturating_mul(2),
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        color_type: match (photometric, samples) {
            (0 | 1 | 4, ..=1) => ColorType::Gray,
            (0 | 1 | 4, _) => ColorType::GrayAlpha,
            (3, _) => ColorType::Palette,
            (5, _) => ColorType::Cmyk,
            (_, ..=3) => ColorType::Rgb,
            _ => ColorType::RgbAlpha,
        },
        bit_depth: u8::try_from(bits).unwrap_or(u8::MAX),
        exif: Some(bytes),
    })
}

/// Every page's strips or tiles must lie within the file. How many pages there are.
pub(super) fn check_complete(bytes: &[u8]) -> Result<u32, Flaw> {
    let file = File::of(bytes);
    let mut at = file.first()?;
    let mut pages = 0;
    // Directories don't overlap, so all together they are shorter than the file: a chain that
    // is longer runs in circles.
    let mut walked = 0_u64;
    while at != 0 {
        let page = Page::at(&file, at)?;
        let table = page.offsets.map_or(0, |offsets| offsets.count);
        walked = walked.saturating_add(page.length).saturating_add(table);
        if walked > file.len() {
            return Err(Flaw::corrupt("its directories run in circles"));
        }
        page.check(&file)?;
        pages += 1;
        at = page.next;
    }
    Ok(pages)
}
