//! Which jobs are in the spool, in memory: from a job's id to the key of its record.

use crate::tables;
use imgsys_types::{JobId, Owner, Timestamp};
use std::collections::HashMap;

/// Where a job's record is. With its id 32 bytes: a million jobs take some 70 MB with the map.
#[derive(Debug, Clone, Copy)]
struct Place {
    submitted_at: Timestamp,
    owner: u32,
}

/// The jobs in the spool.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: HashMap<JobId, Place>,
    owners: Vec<Owner>,
    numbers: HashMap<Owner, u32>,
}

impl Index {
    pub(crate) fn reserve(&mut self, jobs: usize) {
        self.places.reserve(jobs);
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The key of the job's record.
    pub(crate) fn key(&self, job: JobId) -> Option<Vec<u8>> {
        let place = self.places.get(&job)?;
        let owner = self.owners.get(place.owner as usize)?;
        Some(tables::spool_key(owner, place.submitted_at, job))
    }

    pub(crate) fn insert(&mut self, owner: &Owner, submitted_at: Timestamp, job: JobId) {
        let owner = self.number(owner);
        self.places.insert(
            job,
            Place {
                submitted_at,
                owner,
            },
        );
    }

    pub(crate) fn remove(&mut self, job: JobId) {
        self.places.remove(&job);
    }

    fn number(&mut self, owner: &Owner) -> u32 {
        if let Some(&number) = self.numbers.get(owner) {
            return number;
        }
        // There are not 2^32 owners in a memory; if there were, the last would share a number
        // that no key is found under.
        let number = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        self.owners.push(owner.clone());
        self.numbers.insert(owner.clone(), number);
        number
    }
}
