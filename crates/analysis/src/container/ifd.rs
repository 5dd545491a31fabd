//! Directories of tagged entries, as TIFF 6.0 and `BigTIFF` files are made of, and EXIF blocks.

use super::Flaw;

/// A file or block, with its byte order and width of offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// `BigTIFF`: offsets of 64 bits.
    wide: bool,
}

/// What a tag says, and where its values lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) tag: u16,
    kind: u16,
    /// How many values it has.
    pub(crate) count: u64,
    /// Where its value field is.
    field: u64,
}

/// A directory: where its entries begin, and how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory {
    entries: u64,
    count: u64,
    /// Where the next directory is; 0 for none.
    pub(crate) next: u64,
    /// How long it is, in bytes.
    pub(crate) length: u64,
}

impl<'a> File<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let big_endian = bytes.starts_with(b"M");
        let wide = bytes.get(2..4).is_some_and(|magic| magic.contains(&43));
        Self {
            bytes,
            big_endian,
            wide,
        }
    }

    /// How many bytes there are.
    pub(crate) const fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn bytes_at(&self, at: u64, length: u64) -> Result<&'a [u8], Flaw> {
        let cut = || Flaw::truncated("a directory lies beyond the end");
        let start = usize::try_from(at).map_err(|_| cut())?;
        let end = usize::try_from(at.saturating_add(length)).map_err(|_| cut())?;
        self.bytes.get(start..end).ok_or_else(cut)
    }

    /// The number of `width` bytes (at most 8) at an offset.
    fn number(&self, at: u64, width: u64) -> Result<u64, Flaw> {
        let digits = self.bytes_at(at, width)?;
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

    /// Where the first directory is.
    pub(crate) fn first(&self) -> Result<u64, Flaw> {
        self.number(if self.wide { 8 } else { 4 }, self.offset_width())
    }

    const fn entry_width(&self) -> u64 {
        if self.wide { 20 } else { 12 }
    }

    pub(crate) fn directory(&self, at: u64) -> Result<Directory, Flaw> {
        let count_width = if self.wide { 8 } else { 2 };
        let count = self.number(at, count_width)?;
        let entries = at.saturating_add(count_width);
        let length = count.saturating_mul(self.entry_width());
        let end = entries.saturating_add(length);
        let next = self.number(end, self.offset_width())?;
        Ok(Directory {
            entries,
            count,
            next,
            length: length + count_width,
        })
    }

    /// The entries of a directory, in their order. [`File::directory`] has seen that they are there.
    pub(crate) fn entries(
        self,
        directory: Directory,
    ) -> impl Iterator<Item = Result<Entry, Flaw>> + 'a {
        (0..directory.count).map(move |index| {
            let at = directory.entries + index * self.entry_width();
            Ok(Entry {
                tag: self.short(at)?,
                kind: self.short(at + 2)?,
                count: self.number(at + 4, self.offset_width())?,
                field: at + 4 + self.offset_width(),
            })
        })
    }

    /// Where the values of an entry are, if each takes `width` bytes.
    fn values(&self, entry: Entry, width: u64) -> Result<u64, Flaw> {
        if entry.count.saturating_mul(width) <= self.offset_width() {
            Ok(entry.field)
        } else {
            self.number(entry.field, self.offset_width())
        }
    }

    /// Value number `index` of an entry, a number without sign or fraction.
    pub(crate) fn value(&self, entry: Entry, index: u64) -> Result<u64, Flaw> {
        let width = match entry.kind {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return Err(Flaw::corrupt("a tag that should be a number is none")),
        };
        let start = self.values(entry, width)?;
        self.number(start.saturating_add(index * width), width)
    }

    /// Value number `index` of an entry of fractions.
    pub(crate) fn fraction(&self, entry: Entry, index: u64) -> Option<f64> {
        if !matches!(entry.kind, 5 | 10) || index >= entry.count {
            return None;
        }
        let at = self.values(entry, 8).ok()?.saturating_add(index * 8);
        let part = |at| {
            let part = u32::try_from(self.number(at, 4).ok()?).ok()?;
            Some(if entry.kind == 10 {
                f64::from(part.cast_signed())
            } else {
                f64::from(part)
            })
        };
        let value = part(at)? / part(at.saturating_add(4))?;
        value.is_finite().then_some(value)
    }

    /// The bytes of an entry of text.
    pub(crate) fn text(&self, entry: Entry) -> Option<&'a [u8]> {
        if !matches!(entry.kind, 2 | 7 | 129) {
            return None;
        }
        let start = self.values(entry, 1).ok()?;
        self.bytes_at(start, entry.count).ok()
    }
}
