//! A spool of the time before there was a log: its jobs were a table of the database.
//!
//! `spool` had a key of owner, 0, time of submission and job id for each job, and the job and its
//! result in CBOR. `meta` had under `unproven` the keys whose images the last commit flushed.
//!
//! All of it is written to the log, and flushed, before the table is dropped. If that is cut short the
//! table is still there, and what the log has so far is of no use: it is written anew, behind it.

use super::{LogState, new_log};
use crate::{
    Spooled, StoreError,
    error::database,
    images::Images,
    log::{
        Disk, End, Writer,
        record::{Flags, Salt},
    },
    tables::{self, KNOWN, LOG, META},
};
use imgsys_types::{Digest, Job, JobId, JobResult, Priority, Run, Timestamp};
use redb::{ReadableTable, TableDefinition, TableError, TableHandle, WriteTransaction};
use serde::Deserialize;
use std::collections::{HashMap, HashSet, hash_map::Entry};

pub(super) const OLD: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spool");
pub(super) const UNPROVEN: &str = "unproven";

const DOING: &str = "taking over the spool's old table";

/// How long a batch of taken-over records may be.
const BATCH: usize = 1 << 20;

/// Whether the database has its jobs in a table.
pub(super) fn is_old(transaction: &WriteTransaction) -> Result<bool, StoreError> {
    let mut tables = transaction.list_tables().map_err(database(DOING))?;
    if !tables.any(|table| table.name() == LOG.name()) {
        return Ok(false);
    }
    match transaction.open_table(LOG) {
        Ok(_) => Ok(false),
        Err(TableError::TableTypeMismatch { .. }) => Ok(true),
        Err(error) => Err(database(DOING)(error)),
    }
}

/// Writes all jobs of the table to the log, by the writer made for the place where it begins; then
/// drops the table. True only once the transaction is committed.
pub(super) fn import(
    transaction: &WriteTransaction,
    images: &Images,
    disk: &dyn Disk,
    writer: impl FnOnce(Salt, End) -> Writer,
) -> Result<LogState, StoreError> {
    let listed = disk.segments();
    let listed = listed.map_err(crate::error::io_error("listing", &disk.path(1)))?;
    let first = listed.into_iter().max().unwrap_or(0) + 1;
    let state = new_log(first);
    let mut log = writer(state.salt, End::before(first));
    let unproven = unproven(transaction)?;
    let mut halves: HashMap<Digest, bool> = HashMap::new();
    let old = transaction.open_table(OLD).map_err(database(DOING))?;
    let mut jobs = 0_usize;
    log.begin();
    for entry in old.iter().map_err(database(DOING))? {
        let (key, value) = entry.map_err(database(DOING))?;
        let spooled = decode(key.value(), value.value())?;
        let job = &spooled.run.job;
        if unproven.contains(key.value()) {
            if let Entry::Vacant(entry) = halves.entry(job.sha256) {
                entry.insert(!images.is_intact(&job.sha256, job.size)?);
            }
            if halves.get(&job.sha256) == Some(&true) {
                tracing::warn!(job = %job.id, sha256 = %job.sha256, "never accepted: no whole image");
                continue;
            }
        }
        append(&mut log, &spooled);
        jobs += 1;
        if log.size() >= BATCH {
            log.write()?;
            log.begin();
        }
    }
    if !log.is_empty() {
        log.write()?;
    }
    drop(old);
    transaction.delete_table(OLD).map_err(database(DOING))?;
    let mut known = transaction.open_table(KNOWN).map_err(database(DOING))?;
    for (digest, _) in halves.into_iter().filter(|(_, half)| *half) {
        let (first, end) = tables::known_keys(&digest);
        let forgotten = known.retain_in(first.as_slice()..end.as_slice(), |_, _| false);
        forgotten.map_err(database(DOING))?;
        images.remove(&digest);
    }
    let mut meta = transaction.open_table(META).map_err(database(DOING))?;
    drop(meta.remove(UNPROVEN).map_err(database(DOING))?);
    tracing::info!(
        jobs,
        "took over the spool's jobs from the database into the log"
    );
    let (sequence, _) = log.last();
    Ok(LogState { sequence, ..state })
}

/// A run that has ended has its end in a record of its own, as if it had come after it.
fn append(log: &mut Writer, spooled: &Spooled) {
    let Spooled { run, result } = spooled;
    if run.number == 0 {
        log.accepted(Flags::default(), run, None);
        if let Some(result) = result {
            log.result(run.job.id, result);
        }
    } else {
        log.accepted(Flags::default(), run, result.as_ref());
    }
}

/// The keys whose images may not be whole.
fn unproven(transaction: &WriteTransaction) -> Result<HashSet<Vec<u8>>, StoreError> {
    let meta = transaction.open_table(META).map_err(database(DOING))?;
    let value = meta.get(UNPROVEN).map_err(database(DOING))?;
    let value = value
        .map(|value| value.value().to_vec())
        .unwrap_or_default();
    let mut rest = value.as_slice();
    let mut keys = HashSet::new();
    while let Some((&len, after)) = rest.split_first() {
        let Some((key, after)) = after.split_at_checked(usize::from(len)) else {
            let what = "list of unproven records";
            return Err(StoreError::CorruptSpool { what });
        };
        keys.insert(key.to_vec());
        rest = after;
    }
    Ok(keys)
}

/// A value of the table. Before there were other runs than submissions it had no `rerun`.
#[derive(Deserialize)]
struct Value {
    job: Job,
    result: Option<JobResult>,
    #[serde(default)]
    rerun: Option<Rerun>,
}

/// What tells a later run from the submission.
#[derive(Deserialize)]
struct Rerun {
    number: u32,
    priority: Priority,
    accepted_at: Timestamp,
}

fn decode(key: &[u8], value: &[u8]) -> Result<Spooled, StoreError> {
    let (_, id) = key
        .split_last_chunk::<16>()
        .ok_or(StoreError::CorruptSpool { what: "key" })?;
    let id = JobId::from_bytes(*id);
    let corrupt = |reason: String| StoreError::Corrupt { job: id, reason };
    let value: Value = ciborium::from_reader(value).map_err(|error| corrupt(error.to_string()))?;
    if value.job.id != id {
        return Err(corrupt(format!("it is of job {}", value.job.id)));
    }
    let run = match value.rerun {
        None => Run::submission(value.job),
        Some(rerun) => Run {
            job: value.job,
            number: rerun.number,
            priority: rerun.priority,
            accepted_at: rerun.accepted_at,
            checksum: None,
        },
    };
    let result = value.result;
    Ok(Spooled { run, result })
}

#[cfg(test)]
mod tests;
