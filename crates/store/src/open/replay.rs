//! What the log says, from its oldest segment to its end.

use crate::{
    Durability, StoreError,
    error::io_error,
    index::Entry,
    known::{Recent, Spent},
    log::{
        Disk, End, Malformed, Place, SegmentFile,
        reader::{Batch, Next, SegmentReader},
        record::{Record, Said, Salt},
    },
    spool::Spool,
    tables,
};
use imgsys_types::{Digest, JobId, Owner};
use std::sync::Arc;

/// What the database says of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogState {
    pub(super) salt: Salt,
    /// The oldest segment that is needed.
    pub(super) first: u32,
    /// The last batch that the tables are up to.
    pub(super) sequence: u64,
}

/// A job of the last batch whose image was flushed together with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unproven {
    pub(super) job: JobId,
    pub(super) sha256: Digest,
    pub(super) size: u64,
}

/// What is known when the log has been read.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) spool: Spool,
    pub(super) recent: Recent,
    pub(super) spent: Spent,
    pub(super) end: End,
    pub(super) unproven: Vec<Unproven>,
    state: LogState,
    /// The owner of the last job: that of the next one, as a rule.
    owner: Option<Owner>,
}

const READING: &str = "reading the spool's log";

impl Replay {
    /// Reads the log, and cuts off the batch at its end that was not written whole.
    pub(super) fn read(
        disk: &dyn Disk,
        state: LogState,
        spent: Spent,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let segments = needed(disk, state)?;
        let mut replay = Self {
            spool: Spool::default(),
            recent: Recent::default(),
            spent,
            end: End::before(state.first),
            unproven: Vec::new(),
            state,
            owner: None,
        };
        for (index, &segment) in segments.iter().enumerate() {
            let path = || disk.path(segment);
            let file = disk.open(segment).map_err(io_error(READING, &path()))?;
            // Where a flush can have failed: what is cached may pass for flushed and be newer than
            // what the disk holds.
            if matches!(durability, Durability::Fsync) && index + 2 >= segments.len() {
                let afresh = file.forget_cached();
                afresh.map_err(io_error("reading afresh", &path()))?;
            }
            let place = Segment {
                disk,
                number: segment,
                is_first: index == 0,
                is_last: index + 1 == segments.len(),
                durability,
            };
            replay.segment(&place, &file)?;
            replay.spool.segments.insert(segment, file);
        }
        if replay.end.sequence <= state.sequence {
            return Err(StoreError::CorruptLog {
                path: disk.path(replay.end.segment),
                offset: replay.end.offset,
                reason: "it ends before what the database has of it",
            });
        }
        Ok(replay)
    }

    fn segment(
        &mut self,
        place: &Segment<'_>,
        file: &Arc<dyn SegmentFile>,
    ) -> Result<(), StoreError> {
        let salt = self.state.salt;
        let failed = |source| io_error(READING, &place.disk.path(place.number))(source);
        let (mut reader, head) = SegmentReader::open(&**file, salt).map_err(failed)?;
        self.end.segment = place.number;
        self.end.offset = 0;
        match head.map_err(|reason| place.corrupt(0, reason))? {
            Some(head) => {
                let follows = if place.is_first {
                    head.first <= self.state.sequence + 1
                } else {
                    head.first == self.end.sequence
                };
                if head.number != place.number || !follows {
                    return Err(place.corrupt(0, Malformed("it does not follow the one before")));
                }
                self.end.sequence = head.first;
            }
            // A first segment that the database knows of was flushed.
            None if place.is_first && self.state.sequence > 0 => {
                return Err(place.corrupt(0, Malformed("it has no head")));
            }
            None => return self.torn(place, &mut reader, &**file),
        }
        loop {
            self.end.offset = reader.offset();
            match reader.next(self.end.sequence).map_err(failed)? {
                Next::Batch(batch) => {
                    let offset = batch.offset;
                    let done = self.batch(place.number, &batch);
                    done.map_err(|reason| place.corrupt(offset, reason))?;
                    self.end.sequence += 1;
                    self.end.last = place.number;
                }
                Next::End => return Ok(()),
                Next::Torn => return self.torn(place, &mut reader, &**file),
            }
        }
    }

    /// Only the last batch of all can have been cut short.
    fn torn(
        &self,
        place: &Segment<'_>,
        reader: &mut SegmentReader<'_>,
        file: &dyn SegmentFile,
    ) -> Result<(), StoreError> {
        let path = || place.disk.path(place.number);
        let offset = self.end.offset;
        let damaged = Malformed("a batch is damaged");
        if !place.is_last {
            return Err(place.corrupt(offset, damaged));
        }
        let behind = reader.has_batch_behind(self.end.sequence);
        if behind.map_err(io_error(READING, &path()))? {
            return Err(place.corrupt(offset, damaged));
        }
        let bytes = reader.len() - offset;
        if bytes > 0 {
            tracing::warn!(
                log = %path().display(), offset, bytes,
                "cut off the end of the spool's log, which was not written whole"
            );
        }
        let mut cut = file.cut(offset);
        if matches!(place.durability, Durability::Fsync) {
            // The next batch may go to another segment, whose flush does not cover this.
            cut = cut.and_then(|()| file.flush());
        }
        cut.map_err(io_error("cutting off the end of the spool's log", &path()))
    }

    fn batch(&mut self, segment: u32, batch: &Batch<'_>) -> Result<(), Malformed> {
        self.unproven.clear();
        let is_news = batch.sequence > self.state.sequence;
        for record in batch.records() {
            let (offset, len, record) = record?;
            let small = |number| u32::try_from(number).map_err(|_| Malformed("it is too long"));
            let place = Place {
                segment,
                offset: small(offset)?,
                len: small(len as u64)?,
            };
            self.record(place, &record, is_news)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        place: Place,
        record: &Record<'_>,
        is_news: bool,
    ) -> Result<(), Malformed> {
        match record.said()? {
            Said::Accepted(flags, job) => {
                let owner = self.owner(job.owner)?;
                if is_news && flags.came {
                    let day = tables::day_of(job.submitted_at);
                    self.spent.add(&owner, day, job.size);
                }
                if is_news && flags.made_known {
                    self.recent.learn(job.sha256, owner.clone(), job.size);
                }
                if flags.written {
                    self.unproven.push(Unproven {
                        job: job.id,
                        sha256: job.sha256,
                        size: job.size,
                    });
                }
                let ended = job.last_run.is_some_and(|last| last >= job.run);
                let entry = Entry {
                    owner,
                    submitted_at: job.submitted_at,
                    run: job.run,
                    accepted: place,
                    end: ended.then_some(place),
                };
                self.spool.jobs.put(job.id, &entry);
            }
            // A job that is not here has gone since, or been carried over with its result: the
            // segment with its record is deleted.
            Said::Result(job) => self.spool.jobs.set_end(job, place),
            Said::Gone(jobs) => {
                for job in jobs {
                    self.spool.jobs.remove(JobId::from_bytes(*job));
                }
            }
            Said::Forgotten(images) => {
                for image in images.iter().filter(|_| is_news) {
                    self.recent.forget(Digest::from_bytes(*image));
                }
            }
        }
        Ok(())
    }

    fn owner(&mut self, name: &str) -> Result<Owner, Malformed> {
        match &self.owner {
            Some(owner) if owner.as_str() == name => Ok(owner.clone()),
            _ => {
                let owner: Owner = name
                    .parse()
                    .map_err(|_| Malformed("an owner that is none"))?;
                Ok(self.owner.insert(owner).clone())
            }
        }
    }
}

/// A segment among the others.
#[derive(Debug)]
struct Segment<'a> {
    disk: &'a dyn Disk,
    number: u32,
    is_first: bool,
    is_last: bool,
    durability: Durability,
}

impl Segment<'_> {
    fn corrupt(&self, offset: u64, reason: Malformed) -> StoreError {
        StoreError::CorruptLog {
            path: self.disk.path(self.number),
            offset,
            reason: reason.0,
        }
    }
}

/// The segments that are needed, without a gap. Those that are not are deleted: the power may have
/// been cut before that was done.
fn needed(disk: &dyn Disk, state: LogState) -> Result<Vec<u32>, StoreError> {
    let listed = disk.segments();
    let mut segments = listed.map_err(io_error("listing", &disk.path(state.first)))?;
    segments.sort_unstable();
    let (gone, needed): (Vec<_>, Vec<_>) = segments
        .into_iter()
        .partition(|segment| *segment < state.first);
    for segment in gone {
        let path = disk.path(segment);
        disk.remove(segment)
            .map_err(io_error("removing an old segment", &path))?;
    }
    let whole = (state.first..).zip(&needed).all(|(a, b)| a == *b);
    if !whole || needed.is_empty() && state.sequence > 0 {
        let found = (state.first..).zip(&needed).find(|(a, b)| a != *b);
        return Err(StoreError::CorruptLog {
            path: disk.path(found.map_or(state.first, |(missing, _)| missing)),
            offset: 0,
            reason: "the segment is missing",
        });
    }
    Ok(needed)
}
