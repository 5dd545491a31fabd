//! Pages of the history, and all records: the jobs that are still in the spool.

use super::{Shared, Spooled, Store};
use crate::{
    StoreError,
    index::{Entry, Key},
    log::{Located, Window},
};
use imgsys_types::{Cursor, HistoryFilter, JobId, JobRecord, Owner, Timestamp, Whose};

/// How many jobs are looked up at once, at most: the committer waits as long.
pub(super) const CHUNK: usize = 512;

impl Store {
    /// Walks over all records, owner by owner, oldest first. What comes or goes meanwhile may be
    /// among them or not. Records that can't be read are logged and left out; returns how many
    /// there were of them. This reads the whole spool: it belongs on a blocking thread.
    pub fn records(&self, mut each: impl FnMut(Spooled)) -> Result<usize, StoreError> {
        let shared = &self.0.shared;
        let mut unreadable = 0;
        let mut after: Option<(Owner, Key)> = None;
        loop {
            let after_this = after.as_ref().map(|(owner, key)| (owner, *key));
            let spool = shared.spool();
            let found = spool.jobs.walk(after_this, CHUNK);
            let Some((job, entry)) = found.last() else {
                return Ok(unreadable);
            };
            after = Some((entry.owner.clone(), (entry.submitted_at, *job)));
            let chunk = located(&found, |job, entry| spool.locate(job, entry))?;
            drop(spool);
            for spooled in readable(shared, &chunk) {
                match spooled? {
                    Some(spooled) => each(spooled),
                    None => unreadable += 1,
                }
            }
        }
    }

    /// Jobs in the spool that match the filter, newest first (by time of submission, then id), at
    /// most `limit`, those after `after` only. Records that can't be read are logged and left out. A
    /// filter that matches few jobs reads many: this belongs on a blocking thread.
    pub fn page(
        &self,
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let shared = &self.0.shared;
        let owner = match whose {
            Whose::One(owner) => Some(owner),
            Whose::All => None,
        };
        let mut before = before(filter, after);
        let mut records = Vec::new();
        while records.len() < limit {
            let count = (limit - records.len()).clamp(16, CHUNK);
            let spool = shared.spool();
            let found = spool.jobs.newest(owner, before, filter.since, count);
            let Some((job, entry)) = found.last() else {
                break;
            };
            before = Some((entry.submitted_at, *job));
            let chunk = located(&found, |job, entry| spool.locate(job, entry))?;
            drop(spool);
            for spooled in readable(shared, &chunk) {
                let record = spooled?.map(Spooled::into_record);
                records.extend(record.filter(|record| filter.matches(record)));
                if records.len() == limit {
                    break;
                }
            }
        }
        Ok(records)
    }
}

/// The first key that is too new for a page.
fn before(filter: &HistoryFilter, after: Option<Cursor>) -> Option<Key> {
    let until = |time: Timestamp| (time, JobId::from_bytes([0; 16]));
    let until = filter.until.map(until);
    let after = after.map(|after| (after.submitted_at, after.job));
    match (until, after) {
        (Some(until), Some(after)) => Some(until.min(after)),
        (until, after) => until.or(after),
    }
}

fn located(
    found: &[(JobId, Entry)],
    locate: impl Fn(JobId, &Entry) -> Result<Located, StoreError>,
) -> Result<Vec<Located>, StoreError> {
    let found = found.iter();
    found.map(|(job, entry)| locate(*job, entry)).collect()
}

/// The records, `None` for one that makes no sense: it must not keep the others from being shown.
fn readable(
    shared: &Shared,
    jobs: &[Located],
) -> impl Iterator<Item = Result<Option<Spooled>, StoreError>> {
    let mut window = Window::wide();
    jobs.iter()
        .map(move |job| match window.spooled(job, shared.salt) {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, "left out a record of the spool");
                Ok(None)
            }
            spooled => spooled.map(Some),
        })
}
