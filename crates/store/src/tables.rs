//! The tables of the spool's database, their keys and values.
//!
//! | table | key | value |
//! |---|---|---|
//! | `spool` | owner, 0, time of submission, job id | [`Spooled`] in CBOR |
//! | `known` | digest, owner | the image's size in bytes |
//! | `spent` | owner | day (UTC, since 1970), and the bytes of images that came on it |
//! | `meta` | `server` | the server's id |
//! | `meta` | `unproven` | keys of `spool` written by the last commit, whose images it flushed |
//!
//! An owner's jobs lie in the order of the history's pages, so that a page is a range. The
//! digest comes first in `known`, so that all owners of an image lie together.

use crate::{Spooled, StoreError, error::database};
use imgsys_types::{
    Cursor, Digest, HistoryFilter, Job, JobId, JobResult, Owner, Priority, Run, Timestamp,
};
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

pub(crate) const SPOOL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spool");
pub(crate) const KNOWN: TableDefinition<'_, &[u8], u64> = TableDefinition::new("known");
pub(crate) const SPENT: TableDefinition<'_, &str, (i64, u64)> = TableDefinition::new("spent");
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const SERVER: &str = "server";
pub(crate) const UNPROVEN: &str = "unproven";

/// No owner has this byte in its name, so no owner's keys lie among another's.
const END_OF_OWNER: u8 = 0;
const TIME_AND_ID: usize = 8 + 16;

/// The key of a job's record.
pub(crate) fn spool_key(owner: &Owner, submitted_at: Timestamp, job: JobId) -> Vec<u8> {
    let mut key = Vec::with_capacity(owner.as_str().len() + 1 + TIME_AND_ID);
    key.extend(owner.as_str().as_bytes());
    key.push(END_OF_OWNER);
    // With its sign turned a number orders as its big-endian bytes do.
    key.extend((submitted_at.as_micros() ^ i64::MIN).to_be_bytes());
    key.extend(job.as_bytes());
    key
}

/// What [`spool_key`] made a key of.
pub(crate) fn parse_spool_key(key: &[u8]) -> Option<(Owner, Timestamp, JobId)> {
    let (rest, id) = key.split_last_chunk::<16>()?;
    let (rest, time) = rest.split_last_chunk::<8>()?;
    let (&end, owner) = rest.split_last()?;
    let owner = std::str::from_utf8(owner).ok()?.parse().ok()?;
    let time = Timestamp::from_micros(i64::from_be_bytes(*time) ^ i64::MIN);
    (end == END_OF_OWNER).then(|| (owner, time, JobId::from_bytes(*id)))
}

/// The key in `known` of an owner's image.
pub(crate) fn known_key(digest: &Digest, owner: &Owner) -> Vec<u8> {
    [digest.as_bytes(), owner.as_str().as_bytes()].concat()
}

/// The keys in `known` of an image's owners: from the first to before the second.
pub(crate) fn known_keys(digest: &Digest) -> (Vec<u8>, Vec<u8>) {
    let first = digest.as_bytes().to_vec();
    // Owners are ASCII.
    let end = [first.as_slice(), &[0x80]].concat();
    (first, end)
}

/// The size of the image if anybody is known to have sent it.
pub(crate) fn known_to_anyone(
    known: &impl ReadableTable<&'static [u8], u64>,
    digest: &Digest,
) -> Result<Option<u64>, StoreError> {
    let doing = "reading the index of images";
    let (first, end) = known_keys(digest);
    let range = known.range(first.as_slice()..end.as_slice());
    let entry = range.map_err(database(doing))?.next().transpose();
    Ok(entry
        .map_err(database(doing))?
        .map(|(_, size)| size.value()))
}

/// The day of a time (UTC), in days since 1970.
pub(crate) const fn day_of(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(86_400_000_000)
}

/// A value of `spool`. That of a submission is what it was before there were other runs.
#[derive(Serialize, Deserialize)]
struct Value<'a> {
    job: Cow<'a, Job>,
    result: Option<Cow<'a, JobResult>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rerun: Option<Rerun>,
}

/// What tells a later run from the submission.
#[derive(Serialize, Deserialize)]
struct Rerun {
    number: u32,
    priority: Priority,
    accepted_at: Timestamp,
}

pub(crate) fn encode(spooled: &Spooled) -> Result<Vec<u8>, StoreError> {
    let run = &spooled.run;
    let value = Value {
        job: Cow::Borrowed(&run.job),
        result: spooled.result.as_ref().map(Cow::Borrowed),
        rerun: (run.number > 0).then_some(Rerun {
            number: run.number,
            priority: run.priority,
            accepted_at: run.accepted_at,
        }),
    };
    let mut bytes = Vec::with_capacity(512);
    ciborium::into_writer(&value, &mut bytes).map_err(|error| StoreError::Corrupt {
        job: run.job.id,
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

pub(crate) fn decode(id: JobId, value: &[u8]) -> Result<Spooled, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { job: id, reason };
    let value: Value<'_> =
        ciborium::from_reader(value).map_err(|error| corrupt(error.to_string()))?;
    let job = value.job.into_owned();
    if job.id != id {
        return Err(corrupt(format!("it is of job {}", job.id)));
    }
    let run = match value.rerun {
        None => Run::submission(job),
        Some(rerun) => Run {
            job,
            number: rerun.number,
            priority: rerun.priority,
            accepted_at: rerun.accepted_at,
        },
    };
    let result = value.result.map(Cow::into_owned);
    Ok(Spooled { run, result })
}

/// An entry of `spool`; the job's id is taken from the key.
pub(crate) fn decode_entry(key: &[u8], value: &[u8]) -> Result<Spooled, StoreError> {
    let (_, _, job) = parse_spool_key(key).ok_or(StoreError::CorruptSpool { what: "key" })?;
    decode(job, value)
}

/// The first key that a page of an owner's jobs may hold, and the first after it.
pub(crate) fn page_bounds(
    owner: &Owner,
    filter: &HistoryFilter,
    after: Option<Cursor>,
) -> (Vec<u8>, Vec<u8>) {
    let least = JobId::from_bytes([0; 16]);
    let since = filter.since.unwrap_or(Timestamp::from_micros(i64::MIN));
    let mut end = owner.as_str().as_bytes().to_vec();
    end.push(END_OF_OWNER + 1);
    if let Some(until) = filter.until {
        end = spool_key(owner, until, least);
    }
    if let Some(after) = after {
        end = end.min(spool_key(owner, after.submitted_at, after.job));
    }
    (spool_key(owner, since, least), end)
}

/// Keys of `spool` as one value: each with its length before it (it fits a byte: an owner is
/// at most 64 bytes).
pub(crate) fn encode_keys(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut value = Vec::new();
    for key in keys {
        value.extend(u8::try_from(key.len()));
        value.extend(key);
    }
    value
}

pub(crate) fn decode_keys(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut keys = Vec::new();
    while let Some((&len, rest)) = value.split_first() {
        let (key, rest) = rest.split_at_checked(usize::from(len))?;
        keys.push(key);
        value = rest;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::arbitrary::{job_id, job_record, owner, timestamp};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_order_by_owner_then_time_then_id(
            a in (owner(), timestamp(), job_id()),
            b in (owner(), timestamp(), job_id()),
            same_owner: bool,
        ) {
            let b = if same_owner { (a.0.clone(), b.1, b.2) } else { b };
            let key = |(owner, time, id): &(Owner, Timestamp, JobId)| spool_key(owner, *time, *id);
            if a.0 == b.0 {
                prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            } else {
                let prefix = |owner: &Owner| [owner.as_str().as_bytes(), &[0]].concat();
                prop_assert!(!key(&a).starts_with(&prefix(&b.0)));
            }
            prop_assert_eq!(parse_spool_key(&key(&a)), Some(a));
        }

        #[test]
        fn records_and_key_lists_come_back(record in job_record(), more in owner()) {
            let mut run = Run::submission(record.job.clone());
            let submission = Spooled { run: run.clone(), result: record.result.clone() };
            // What was written before there were other runs is read as it was meant.
            let mut before = Vec::new();
            ciborium::into_writer(&record, &mut before).unwrap();
            prop_assert_eq!(decode(record.job.id, &before).unwrap(), submission.clone());
            run.number = 7;
            run.priority = Priority::new(9).unwrap();
            run.accepted_at = Timestamp::from_micros(1);
            for spooled in [submission, Spooled { run, result: record.result.clone() }] {
                let bytes = encode(&spooled).unwrap();
                prop_assert_eq!(decode(record.job.id, &bytes).unwrap(), spooled);
            }
            let keys = [&record.job.owner, &more]
                .map(|owner| spool_key(owner, record.job.submitted_at, record.job.id));
            let list = encode_keys(&keys);
            prop_assert_eq!(decode_keys(&list).unwrap(), keys.to_vec());
        }
    }

    #[test]
    fn a_list_cut_short_is_told() {
        assert_eq!(decode_keys(&[3, 1, 2]), None);
    }
}
