//! Reading records one by one.

use super::{
    Place, SegmentFile,
    record::{Record, Salt},
};
use crate::{Spooled, StoreError};
use imgsys_types::JobId;
use std::{io, sync::Arc};

/// A part of a segment that was read. It is of the time when it was read: only records that were
/// written before may be looked for in it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    segment: u32,
    start: u64,
    bytes: Vec<u8>,
    /// How many bytes are read at least, as what comes next is likely to be wanted too.
    ahead: usize,
}

/// A job's records, and the files that they are in.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) job: JobId,
    pub(crate) accepted: (Place, Arc<dyn SegmentFile>),
    pub(crate) result: Option<(Place, Arc<dyn SegmentFile>)>,
}

impl Window {
    /// For one record alone.
    pub(crate) fn narrow() -> Self {
        Self::default()
    }

    /// For many records, most of which lie one after the other.
    pub(crate) fn wide() -> Self {
        Self {
            ahead: 16 << 10,
            ..Self::default()
        }
    }

    /// The job as its records say.
    pub(crate) fn spooled(&mut self, job: &Located, salt: Salt) -> Result<Spooled, StoreError> {
        let (place, file) = &job.accepted;
        let accepted = decode_accepted(job.job, self.record(*place, &**file)?, salt)?;
        let Some((place, file)) = &job.result else {
            return Ok(accepted);
        };
        let record = self.record(*place, &**file)?;
        with_result(accepted, record, salt)
    }

    /// The bytes of the record at this place.
    pub(crate) fn record(
        &mut self,
        place: Place,
        file: &dyn SegmentFile,
    ) -> Result<&[u8], StoreError> {
        let len = usize::try_from(place.len).unwrap_or(usize::MAX);
        let offset = u64::from(place.offset);
        let end = offset + u64::from(place.len);
        let there = self.start..=self.start + self.bytes.len() as u64;
        let held = self.segment == place.segment && !self.bytes.is_empty();
        if !held || !there.contains(&offset) || !there.contains(&end) {
            self.bytes.resize(len.max(self.ahead), 0);
            let read = file.read_at(offset, &mut self.bytes);
            let read = read.map_err(|source| read_error(place, source))?;
            self.bytes.truncate(read);
            (self.segment, self.start) = (place.segment, offset);
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(from..).and_then(|bytes| bytes.get(..len));
        bytes.ok_or_else(|| read_error(place, io::ErrorKind::UnexpectedEof.into()))
    }
}

fn read_error(place: Place, source: io::Error) -> StoreError {
    StoreError::Io {
        doing: "reading the spool's log:",
        path: format!("segment {} at {}", place.segment, place.offset).into(),
        source,
    }
}

/// The job in an accepted record, with the result that it brought.
pub(crate) fn decode_accepted(
    job: JobId,
    record: &[u8],
    salt: Salt,
) -> Result<Spooled, StoreError> {
    let spooled = Record::whole(record, salt).and_then(|record| record.accepted());
    let spooled = spooled.map_err(|reason| corrupt(job, reason.0.into()))?;
    let found = spooled.run.job.id;
    if found != job {
        return Err(corrupt(job, format!("it is of job {found}")));
    }
    Ok(spooled)
}

/// The job with the result in another record.
pub(crate) fn with_result(
    mut spooled: Spooled,
    record: &[u8],
    salt: Salt,
) -> Result<Spooled, StoreError> {
    let job = spooled.run.job.id;
    let found = Record::whole(record, salt).and_then(|record| record.result());
    let (found, result) = found.map_err(|reason| corrupt(job, reason.0.into()))?;
    if found != job {
        return Err(corrupt(job, format!("its result is of job {found}")));
    }
    spooled.result = Some(result);
    Ok(spooled)
}

fn corrupt(job: JobId, reason: String) -> StoreError {
    StoreError::Corrupt { job, reason }
}
