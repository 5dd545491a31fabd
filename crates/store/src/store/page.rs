//! Pages of the history: the jobs that are still in the spool.

use super::{Spooled, Store, readable};
use crate::{
    StoreError,
    tables::{self, SPOOL},
};
use imgsys_types::{Cursor, HistoryFilter, JobRecord, Owner, Whose};
use redb::ReadableTable;
use std::{cmp::Reverse, ops::Bound};

impl Store {
    /// Jobs in the spool that match the filter, newest first (by time of submission, then id), at
    /// most `limit`, those after `after` only. Records that can't be read are logged and left out. A
    /// filter that matches few jobs reads many, and to show all owners' reads all: this belongs on a
    /// blocking thread.
    pub fn page(
        &self,
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        match whose {
            Whose::One(owner) => self.page_of(owner, filter, after, limit),
            Whose::All => self.page_of_all(filter, after, limit),
        }
    }

    fn page_of(
        &self,
        owner: &Owner,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let (first, end) = tables::page_bounds(owner, filter, after);
        if first >= end {
            return Ok(Vec::new());
        }
        let range = (
            Bound::Included(first.as_slice()),
            Bound::Excluded(end.as_slice()),
        );
        self.0.shared.read(SPOOL, "reading the spool", |spool| {
            let mut records = Vec::new();
            for entry in spool.range::<&[u8]>(range)?.rev() {
                if records.len() >= limit {
                    break;
                }
                let (key, value) = entry?;
                let record = readable(key.value(), value.value()).map(Spooled::into_record);
                records.extend(record.filter(|record| filter.matches(record)));
            }
            Ok(records)
        })
    }

    /// The spool is in the order of owners, so the newest of all are found by looking at each.
    fn page_of_all(
        &self,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let keep_newest = |records: &mut Vec<JobRecord>| {
            records.sort_unstable_by_key(|record| Reverse(Cursor::of(record)));
            records.truncate(limit);
        };
        self.0.shared.read(SPOOL, "reading the spool", |spool| {
            let mut records = Vec::new();
            for entry in spool.iter()? {
                let (key, value) = entry?;
                let record = readable(key.value(), value.value())
                    .map(Spooled::into_record)
                    .filter(|record| {
                        filter.matches(record)
                            && after.is_none_or(|after| Cursor::of(record) < after)
                    });
                records.extend(record);
                if records.len() >= limit.saturating_mul(2).max(1024) {
                    keep_newest(&mut records);
                }
            }
            keep_newest(&mut records);
            Ok(records)
        })
    }
}
