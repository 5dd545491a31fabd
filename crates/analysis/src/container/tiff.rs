//! TIFF 6.0 and `BigTIFF`: directories of tagged entries, one for each page, chained by offsets;
//! the pixels lie in strips or tiles anywhere in the file.

use super::{Flaw, Header};
use image::metadata::Orientation;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const STRIP_OFFSETS: u16 = 273;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const STRIP_LENGTHS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_LENGTHS: u16 = 325;
const DNG_VERSION: u16 = 50706;

/// The file, with its byte order and width of offsets.
#[derive(Clone, Copy)]
struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// `BigTIFF`: offsets of 64 bits.
    wide: bool,
}

/// Where a tag's values lie.
#[derive(Clone, Copy)]
struct Entry {
    kind: u16,
    count: u64,
    /// Where in the file its value field is.
    field: u64,
}

/// What counts of a directory's entries.
#[derive(Default)]
struct Page {
    width: Option<Entry>,
    height: Option<Entry>,
    bits: Option<Entry>,
    samples: Option<Entry>,
    orientation: Option<Entry>,
    offsets: Option<Entry>,
    lengths: Option<Entry>,
    is_dng: bool,
    next: u64,
    /// How long the directory is, in bytes.
    length: u64,
}

impl<'a> File<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let big_endian = bytes.starts_with(b"M");
        let wide = bytes.get(2..4).is_some_and(|magic| magic.contains(&43));
        Self {
            bytes,
            big_endian,
            wide,
        }
    }

    /// The number of `width` bytes (at most 8) at an offset.
    fn number(&self, at: u64, width: u64) -> Result<u64, Flaw> {
        let cut = || Flaw::truncated("a directory lies beyond the end");
        let start = usize::try_from(at).map_err(|_| cut())?;
        let end = usize::try_from(at.saturating_add(width)).map_err(|_| cut())?;
        let digits = self.bytes.get(start..end).ok_or_else(cut)?;
        let push = |sum: u64, digit: &u8| sum << 8 | u64::from(*digit);
        Ok(if self.big_endian {
            digits.iter().fold(0, push)
        } else {
            digits.iter().rev().fold(0, push)
        })
    }

    fn short(&self, at: u64) -> Result<u16, Flaw> {
        // Two bytes fit.
        self.number(at, 2)
            .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
    }

    const fn offset_width(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    fn first_page(&self) -> Result<u64, Flaw> {
        self.number(if self.wide { 8 } else { 4 }, self.offset_width())
    }

    fn page(&self, at: u64) -> Result<Page, Flaw> {
        let (count_width, entry_width) = if self.wide { (8, 20) } else { (2, 12) };
        let count = self.number(at, count_width)?;
        let entries = at.saturating_add(count_width);
        let length = count.saturating_mul(entry_width);
        let end = entries.saturating_add(length);
        let next = self.number(end, self.offset_width())?;
        let mut page = Page {
            next,
            length: length + count_width,
            ..Page::default()
        };
        for index in 0..count {
            page.note(self, entries + index * entry_width)?;
        }
        Ok(page)
    }

    /// Value number `index` of an entry.
    fn value(&self, entry: Entry, index: u64) -> Result<u64, Flaw> {
        let width = match entry.kind {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return Err(Flaw::corrupt("a tag that should be a number is none")),
        };
        let inline = entry.count.saturating_mul(width) <= self.offset_width();
        let start = if inline {
            entry.field
        } else {
            self.number(entry.field, self.offset_width())?
        };
        self.number(start.saturating_add(index * width), width)
    }

    fn first_value(&self, entry: Option<Entry>, default: u64) -> Result<u64, Flaw> {
        entry.map_or(Ok(default), |entry| self.value(entry, 0))
    }

    fn check_page(&self, page: &Page) -> Result<(), Flaw> {
        let Some(offsets) = page.offsets else {
            return Err(Flaw::corrupt("it has no pixels' data"));
        };
        // Without lengths the decoder finds the end.
        let Some(lengths) = page.lengths else {
            return Ok(());
        };
        for index in 0..offsets.count.min(lengths.count) {
            let start = self.value(offsets, index)?;
            let end = start.saturating_add(self.value(lengths, index)?);
            if end > self.bytes.len() as u64 {
                return Err(Flaw::truncated("pixels' data lies beyond the end"));
            }
        }
        Ok(())
    }
}

impl Page {
    fn note(&mut self, file: &File<'_>, at: u64) -> Result<(), Flaw> {
        let entry = Entry {
            kind: file.short(at + 2)?,
            count: file.number(at + 4, file.offset_width())?,
            field: at + 4 + file.offset_width(),
        };
        let place = match file.short(at)? {
            WIDTH => &mut self.width,
            HEIGHT => &mut self.height,
            BITS => &mut self.bits,
            SAMPLES => &mut self.samples,
            ORIENTATION => &mut self.orientation,
            STRIP_OFFSETS | TILE_OFFSETS => &mut self.offsets,
            STRIP_LENGTHS | TILE_LENGTHS => &mut self.lengths,
            DNG_VERSION => {
                self.is_dng = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        place.get_or_insert(entry);
        Ok(())
    }
}

pub(super) fn header(bytes: &[u8]) -> Result<Header, Flaw> {
    let file = File::of(bytes);
    let page = file.page(file.first_page()?)?;
    if page.is_dng {
        return Err(Flaw::unsupported("a camera's raw file (DNG)"));
    }
    let side = |entry| {
        let value = file.first_value(entry, 0)?;
        u32::try_from(value).map_err(|_| Flaw::corrupt("its sides are longer than TIFF allows"))
    };
    let sample_bytes = file.first_value(page.bits, 1)?.div_ceil(8);
    let pixel_bytes = sample_bytes.saturating_mul(file.first_value(page.samples, 1)?);
    let turned = file.first_value(page.orientation, 1)?;
    let orientation = u8::try_from(turned).ok().and_then(Orientation::from_exif);
    Ok(Header {
        width: side(page.width)?,
        height: side(page.height)?,
        // The result, and as much again while a strip is unpacked.
        bytes_per_pixel: pixel_bytes.saturating_mul(2),
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
    })
}

/// Every page's strips or tiles must lie within the file.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), Flaw> {
    let file = File::of(bytes);
    let mut at = file.first_page()?;
    // Directories don't overlap, so all together they are shorter than the file: a chain that
    // is longer runs in circles.
    let mut walked = 0_u64;
    while at != 0 {
        let page = file.page(at)?;
        let table = page.offsets.map_or(0, |offsets| offsets.count);
        walked = walked.saturating_add(page.length).saturating_add(table);
        if walked > bytes.len() as u64 {
            return Err(Flaw::corrupt("its directories run in circles"));
        }
        file.check_page(&page)?;
        at = page.next;
    }
    Ok(())
}
