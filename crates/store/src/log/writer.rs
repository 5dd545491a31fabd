//! Writing batches to the end of the log.

use super::{
    Place,
    disk::{Disk, SegmentFile, Unflushed},
    record::{Flags, Record, Records, Salt},
    segment::{BatchHead, HEAD, SegmentHead},
};
use crate::{Durability, StoreError, error::io_error};
use imgsys_types::{Digest, JobId, JobResult, Run};
use std::{fmt, io, sync::Arc};

/// How much room a segment takes at a time, at most.
const RESERVE: u64 = 1 << 20;

/// Where the log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) segment: u32,
    /// Where the next batch goes; the segment's head is yet to be written if this is 0.
    pub(crate) offset: u64,
    /// The number of the next batch.
    pub(crate) sequence: u64,
    /// The segment that the batch before is in.
    pub(crate) last: u32,
}

impl End {
    /// The end of a log that has nothing yet.
    pub(crate) const fn before(first: u32) -> Self {
        Self {
            segment: first,
            offset: 0,
            sequence: 1,
            last: first,
        }
    }
}

/// The end of the log.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    salt: Salt,
    durability: Durability,
    unflushed: Unflushed,
    /// From which length on a segment is followed by the next.
    limit: u64,
    end: End,
    /// The segment at the end, once it is open.
    file: Option<Arc<dyn SegmentFile>>,
    /// How far room was taken in it.
    reserved: u64,
    /// Whether a segment's name in its directory is yet to be flushed.
    new_entry: bool,
    /// The batch, from the head of its segment on if it is the first.
    buffer: Vec<u8>,
    records: u32,
}

/// A batch that is on the disk.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn SegmentFile>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        salt: Salt,
        durability: Durability,
        unflushed: Unflushed,
        limit: u64,
        end: End,
    ) -> Self {
        Self {
            disk,
            salt,
            durability,
            unflushed,
            limit,
            end,
            file: None,
            reserved: 0,
            // Who knows whether it was flushed before.
            new_entry: true,
            buffer: Vec::new(),
            records: 0,
        }
    }

    /// The segment that the batch which was begun goes to: there may be nothing in it yet.
    pub(crate) const fn segment(&self) -> u32 {
        self.end.segment
    }

    /// The number of the last batch that was written, and the segment that it is in.
    pub(crate) const fn last(&self) -> (u64, u32) {
        (self.end.sequence.saturating_sub(1), self.end.last)
    }

    /// Begins a batch. One that was begun and not written is forgotten.
    pub(crate) fn begin(&mut self) {
        if self.end.offset >= self.limit {
            self.seal();
        }
        self.buffer.clear();
        self.records = 0;
        if self.end.offset == 0 {
            let head = SegmentHead {
                number: self.end.segment,
                first: self.end.sequence,
            };
            self.buffer.extend_from_slice(&head.encode(self.salt));
        }
        // The batch's own head, once it is known.
        self.buffer.extend_from_slice(&[0; HEAD]);
    }

    /// Goes on to the next segment.
    fn seal(&mut self) {
        if let Some(file) = self.file.take()
            && self.reserved > self.end.offset
            // A tail of zeros does no harm.
            && let Err(error) = file.cut(self.end.offset)
        {
            tracing::debug!(%error, "could not give back what is left of a segment");
        }
        self.reserved = 0;
        self.end.segment += 1;
        self.end.offset = 0;
    }

    pub(crate) fn accepted(&mut self, flags: Flags, run: &Run, last: Option<&JobResult>) -> Place {
        self.record(|records| records.accepted(flags, run, last))
    }

    pub(crate) fn result(&mut self, id: JobId, result: &JobResult) -> Place {
        self.record(|records| records.result(id, result))
    }

    pub(crate) fn gone(&mut self, jobs: &[JobId]) {
        self.record(|records| records.gone(jobs));
    }

    pub(crate) fn forgotten(&mut self, images: &[Digest]) {
        self.record(|records| records.forgotten(images));
    }

    /// A record once more, without what it did besides.
    pub(crate) fn again(&mut self, record: &Record<'_>) -> Place {
        self.record(|records| records.again(record))
    }

    fn record(&mut self, write: impl FnOnce(&mut Records<'_>)) -> Place {
        let start = self.buffer.len();
        write(&mut Records {
            to: &mut self.buffer,
            salt: self.salt,
        });
        self.records += 1;
        // Places beyond 4 GiB are of a batch that `write` refuses.
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            segment: self.end.segment,
            offset: small(self.end.offset + start as u64),
            len: small((self.buffer.len() - start) as u64),
        }
    }

    /// A record of the batch that is not written yet.
    pub(crate) fn unwritten(&self, place: Place) -> Option<&[u8]> {
        let from = u64::from(place.offset).checked_sub(self.end.offset)?;
        let from = usize::try_from(from).ok()?;
        let len = usize::try_from(place.len).ok()?;
        let bytes = self.buffer.get(from..)?.get(..len);
        bytes.filter(|_| place.segment == self.end.segment)
    }

    /// Whether the batch has any record.
    pub(crate) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The bytes that the batch has so far.
    pub(crate) const fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Writes the batch and flushes it, with the image files that were written before it. When this
    /// fails nobody knows what is on the disk: the writer is not to be used any more.
    pub(crate) fn write(&mut self) -> Result<Written, StoreError> {
        let segment = self.end.segment;
        self.try_write().map_err(|(doing, source)| {
            let path = self.disk.path(segment);
            io_error(doing, &path)(source)
        })
    }

    fn try_write(&mut self) -> Result<Written, (&'static str, io::Error)> {
        let failed = |source| ("writing to the spool's log", source);
        let offset = self.end.offset;
        let end = offset + self.buffer.len() as u64;
        if end > u64::from(u32::MAX) {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        self.fill_in_head();
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.open().map_err(failed)?,
        };
        self.reserve(&*file, end);
        file.write_at(offset, &self.buffer).map_err(failed)?;
        let flushed = self.flush(&*file);
        flushed.map_err(|source| ("flushing the spool's log", source))?;
        self.end.offset = end;
        self.end.sequence += 1;
        self.end.last = self.end.segment;
        Ok(Written {
            segment: self.end.segment,
            file,
        })
    }

    fn fill_in_head(&mut self) {
        let at = if self.end.offset == 0 { HEAD } else { 0 };
        let Some((head, records)) = self
            .buffer
            .get_mut(at..)
            .and_then(|batch| batch.split_first_chunk_mut())
        else {
            return;
        };
        let filled = BatchHead {
            // `write` has seen that it fits.
            len: u32::try_from(records.len()).unwrap_or(u32::MAX),
            checksum: self.salt.checksum(&[records]),
            sequence: self.end.sequence,
            records: self.records,
        };
        *head = filled.encode(self.salt);
    }

    fn open(&mut self) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.disk.open(self.end.segment)?;
        self.reserved = file.len()?;
        self.new_entry |= self.end.offset == 0;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn reserve(&mut self, file: &dyn SegmentFile, end: u64) {
        if self.reserved >= end || matches!(self.durability, Durability::None) {
            return;
        }
        let wanted = end.next_multiple_of(RESERVE.min(self.limit).max(1));
        // Where the file system can't, or has no room for more than the batch, a flush costs more.
        self.reserved = match file.reserve(wanted) {
            Ok(()) => wanted,
            Err(_) => end,
        };
    }

    fn flush(&mut self, file: &dyn SegmentFile) -> io::Result<()> {
        if matches!(self.durability, Durability::None) {
            return Ok(());
        }
        if self.unflushed.take() {
            self.disk.flush_images()?;
        }
        if std::mem::take(&mut self.new_entry) {
            self.disk.flush_entries()?;
        }
        // The log may be on another file system than the images; and where it is not, not every
        // file system's `syncfs` promises to empty the disk's own cache. It costs nothing
        // measurable when nothing is left to write.
        file.flush()
    }
}
