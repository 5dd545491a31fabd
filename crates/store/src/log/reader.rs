//! Reading a segment from its first batch to its last.

use super::{
    disk::SegmentFile,
    fields::Malformed,
    record::{Record, Salt},
    segment::{BATCH, BatchHead, HEAD, SegmentHead},
};
use std::io;

/// How much is read at once; more only if a batch is larger.
const WINDOW: usize = 256 << 10;

/// A segment that is read.
#[derive(Debug)]
pub(crate) struct SegmentReader<'a> {
    file: &'a dyn SegmentFile,
    salt: Salt,
    len: u64,
    /// Where the next batch begins.
    offset: u64,
    window: Vec<u8>,
    /// What part of the file the window is.
    start: u64,
}

/// A whole batch.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) sequence: u64,
    /// Where its first record is in the file.
    pub(crate) offset: u64,
    records: &'a [u8],
    count: u32,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Batch(Batch<'a>),
    /// Nothing, or nothing but zeros.
    End,
    /// Something that is no whole batch.
    Torn,
}

impl<'a> SegmentReader<'a> {
    /// Begins at the head of the segment, which is `None` if it is not whole.
    pub(crate) fn open(
        file: &'a dyn SegmentFile,
        salt: Salt,
    ) -> io::Result<(Self, Result<Option<SegmentHead>, Malformed>)> {
        let mut reader = Self {
            len: file.len()?,
            file,
            salt,
            offset: 0,
            window: Vec::new(),
            start: 0,
        };
        let head = reader.head()?;
        let head = head.map_or(Ok(None), |head| SegmentHead::decode(&head, salt));
        if matches!(head, Ok(Some(_))) {
            reader.offset = HEAD as u64;
        }
        Ok((reader, head))
    }

    /// Where the next batch begins, or the last has ended.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// The next batch, if it has this number and is whole.
    pub(crate) fn next(&mut self, sequence: u64) -> io::Result<Next<'_>> {
        let head = self.head()?;
        let head = head.and_then(|head| BatchHead::decode(&head, self.salt));
        let Some(head) = head else {
            // Room that was taken and not given back may be shorter than a head.
            return Ok(if self.is_zero()? {
                Next::End
            } else {
                Next::Torn
            });
        };
        let records = self.offset + HEAD as u64;
        let len = u64::from(head.len);
        // Nothing is allocated for what is not there.
        if head.sequence != sequence || len > self.len - records {
            return Ok(Next::Torn);
        }
        let salt = self.salt;
        self.offset = records;
        let body = self.look(usize::try_from(len).unwrap_or(usize::MAX))?;
        let whole = body.len() as u64 == len && salt.checksum(&[body]) == head.checksum;
        if !whole {
            self.offset -= HEAD as u64;
            return Ok(Next::Torn);
        }
        self.offset = records + len;
        // The window still holds it.
        let from = usize::try_from(records - self.start).unwrap_or(usize::MAX);
        let to = from + usize::try_from(len).unwrap_or(0);
        Ok(Next::Batch(Batch {
            sequence,
            offset: records,
            records: self.window.get(from..to).unwrap_or_default(),
            count: head.records,
        }))
    }

    /// Whether a batch after that of this number begins anywhere behind this place: then what is
    /// here was flushed once, and is no write that was cut short.
    pub(crate) fn has_batch_behind(&mut self, sequence: u64) -> io::Result<bool> {
        let mut found = false;
        let salt = self.salt;
        self.offset = (self.offset + 1).min(self.len);
        while self.offset < self.len {
            let bytes = self.look(WINDOW)?;
            let last = bytes.len() < WINDOW;
            found |= heads(bytes, salt).any(|head| head.sequence > sequence);
            if found || last {
                break;
            }
            // A head may lie across two windows.
            self.offset += (WINDOW - HEAD + 1) as u64;
        }
        Ok(found)
    }

    fn head(&mut self) -> io::Result<Option<[u8; HEAD]>> {
        Ok(self.look(HEAD)?.first_chunk().copied())
    }

    /// Whether there are only zeros from here on.
    fn is_zero(&mut self) -> io::Result<bool> {
        let begin = self.offset;
        while self.offset < self.len {
            let bytes = self.look(WINDOW)?;
            let count = bytes.len() as u64;
            if count == 0 || bytes.iter().any(|byte| *byte != 0) {
                break;
            }
            self.offset += count;
        }
        let zero = self.offset >= self.len;
        self.offset = begin;
        Ok(zero)
    }

    /// So many bytes from here on, or all that there are.
    fn look(&mut self, count: usize) -> io::Result<&[u8]> {
        let there = usize::try_from(self.len - self.offset).unwrap_or(usize::MAX);
        let count = count.min(there);
        let end = self.offset + count as u64;
        if self.offset < self.start || end > self.start + self.window.len() as u64 {
            // What is read is of this size at most, but for a batch that is larger.
            self.window.resize(count.max(WINDOW.min(there)), 0);
            self.start = self.offset;
            let read = self.file.read_at(self.start, &mut self.window);
            self.window.truncate(read?);
        }
        let from = usize::try_from(self.offset - self.start).unwrap_or(usize::MAX);
        let rest = self.window.get(from..).unwrap_or_default();
        Ok(rest.get(..count).unwrap_or(rest))
    }
}

/// The heads of batches that begin anywhere in these bytes.
fn heads(bytes: &[u8], salt: Salt) -> impl Iterator<Item = BatchHead> + '_ {
    let windows = bytes.windows(HEAD);
    windows
        .filter(|head| head.starts_with(&BATCH))
        .filter_map(move |head| BatchHead::decode(head.first_chunk::<HEAD>()?, salt))
}

impl<'a> Batch<'a> {
    /// Its records, each with its place in the file.
    pub(crate) fn records(
        &self,
    ) -> impl Iterator<Item = Result<(u64, usize, Record<'a>), Malformed>> + 'a {
        let (mut rest, mut offset, mut left) = (self.records, self.offset, self.count);
        std::iter::from_fn(move || {
            if left == 0 {
                let end = rest.is_empty();
                rest = &[];
                return (!end).then_some(Err(Malformed("more records than were counted")));
            }
            let first = Record::first_of(rest).map(|(record, len)| {
                let place = (offset, len, record);
                rest = rest.get(len..).unwrap_or_default();
                offset += len as u64;
                left -= 1;
                place
            });
            if first.is_err() {
                (rest, left) = (&[], 0);
            }
            Some(first)
        })
    }
}
