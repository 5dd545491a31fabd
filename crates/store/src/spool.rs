//! The jobs in the spool and the segments that their records are in.

use crate::{
    StoreError,
    index::{Entry, Index},
    log::{Located, Place, SegmentFile},
};
use imgsys_types::JobId;
use std::{collections::BTreeMap, sync::Arc};

/// What readers look up: all of it is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    pub(crate) jobs: Index,
    pub(crate) segments: BTreeMap<u32, Arc<dyn SegmentFile>>,
}

impl Spool {
    pub(crate) fn file(&self, place: Place) -> Result<Arc<dyn SegmentFile>, StoreError> {
        let file = self.segments.get(&place.segment).cloned();
        file.ok_or(StoreError::CorruptSpool {
            what: "index of the log",
        })
    }

    /// Where the job's records are. They can be read even after they have gone from the log.
    pub(crate) fn locate(&self, job: JobId, entry: &Entry) -> Result<Located, StoreError> {
        let result = entry.result();
        let result = result.map(|place| Ok((place, self.file(place)?)));
        Ok(Located {
            job,
            accepted: (entry.accepted, self.file(entry.accepted)?),
            result: result.transpose()?,
        })
    }

    pub(crate) fn find(&self, job: JobId) -> Result<Option<Located>, StoreError> {
        let entry = self.jobs.get(job);
        entry.map(|entry| self.locate(job, &entry)).transpose()
    }
}
