//! Bringing the tables up to the log, and letting go of segments that nothing is needed of.
//!
//! A segment may be deleted when no job's record is in it and the tables have durably learnt what it
//! says of images. Which segment is the oldest that is needed is written into the database first: a
//! directory may forget deletions in any order when the power is cut.

use crate::{
    StoreError,
    error::{database, io_error},
    known::Departure,
    log::Disk,
    store::Shared,
    tables::{FIRST, LOG, SEQUENCE},
};
use redb::{Database, WriteTransaction};
use std::{sync::Arc, thread::JoinHandle};

const DOING: &str = "bringing the index of images up to date";

/// What the tables are to say.
#[derive(Debug)]
struct Checkpoint {
    news: Departure,
    /// The last batch whose news these are.
    sequence: u64,
    /// The oldest segment that is needed then.
    first: u32,
}

impl Checkpoint {
    fn write(&self, to: &Database) -> Result<(), StoreError> {
        let transaction = to.begin_write().map_err(database(DOING))?;
        self.news.write(&transaction)?;
        note(&transaction, FIRST, self.first.into())?;
        note(&transaction, SEQUENCE, self.sequence)?;
        transaction.commit().map_err(database(DOING))
    }
}

/// Writes down where the log stands.
pub(crate) fn note(
    transaction: &WriteTransaction,
    key: &str,
    value: u64,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(LOG).map_err(database(DOING))?;
    let inserted = table.insert(key, value);
    drop(inserted.map_err(database(DOING))?);
    Ok(())
}

/// The committer's checkpoints: one at a time, beside its commits.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    /// How much may gather before it goes into the tables.
    gather: usize,
    /// The oldest segment that is not deleted.
    first: u32,
    running: Option<(JoinHandle<Result<(), StoreError>>, u32)>,
}

impl Checkpoints {
    pub(crate) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, gather: usize, first: u32) -> Self {
        Self {
            shared,
            disk,
            gather,
            first,
            running: None,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the one that is done, and begins the next if there is cause. The log's last batch (its
    /// number, and the segment that it is in) is on the disk, and all that readers see is of it or
    /// of those before.
    pub(crate) fn go_on(&mut self, (sequence, segment): (u64, u32)) -> Result<(), StoreError> {
        if self
            .running
            .as_ref()
            .is_some_and(|(running, _)| !running.is_finished())
        {
            return Ok(());
        }
        self.end()?;
        let first = self.needed_from(segment);
        if self.shared.learnt().len() < self.gather && first == self.first {
            return Ok(());
        }
        let checkpoint = self.begin(sequence, first);
        let shared = Arc::clone(&self.shared);
        let running = std::thread::Builder::new()
            .name("store-tables".into())
            .spawn(move || checkpoint.write(&shared.database))
            .map_err(io_error("starting a checkpoint of", &self.shared.dir))?;
        self.running = Some((running, first));
        Ok(())
    }

    /// Leaves nothing to be done by the next start.
    pub(crate) fn close(&mut self, (sequence, segment): (u64, u32)) -> Result<(), StoreError> {
        self.end()?;
        let first = self.needed_from(segment);
        let checkpoint = self.begin(sequence, first);
        if !checkpoint.news.is_empty() || first != self.first {
            checkpoint.write(&self.shared.database)?;
            self.done(first);
        }
        Ok(())
    }

    fn begin(&self, sequence: u64, first: u32) -> Checkpoint {
        Checkpoint {
            news: self.shared.learnt_mut().depart(),
            sequence,
            first,
        }
    }

    /// Waits for the one that is running.
    fn end(&mut self) -> Result<(), StoreError> {
        let Some((running, first)) = self.running.take() else {
            return Ok(());
        };
        running.join().map_err(|_| StoreError::Broken)??;
        self.done(first);
        Ok(())
    }

    fn done(&mut self, first: u32) {
        self.shared.learnt_mut().arrived();
        let mut spool = self.shared.spool_mut();
        let kept = spool.segments.split_off(&first);
        let gone = std::mem::replace(&mut spool.segments, kept);
        spool.jobs.forget_segments(first);
        drop(spool);
        for segment in gone.into_keys() {
            if let Err(error) = self.disk.remove(segment) {
                // The next start does it.
                let path = self.disk.path(segment);
                tracing::warn!(path = %path.display(), %error, "could not remove a segment");
            }
        }
        self.first = first;
    }

    /// The oldest segment that any job's record is in, or that of the last batch: it stays, so that
    /// there is always one to go on from.
    fn needed_from(&self, last: u32) -> u32 {
        let spool = self.shared.spool();
        let unused = |segment: &u32| spool.jobs.used_in(*segment) == 0;
        (self.first..last)
            .find(|segment| !unused(segment))
            .unwrap_or(last.max(self.first))
    }
}
