//! Which jobs are in the spool, in memory: where each job's records are, found by its id and in the
//! order of pages.
//!
//! A job takes 56 bytes, some eighteen in the table of ids and four to eight in the order: a million
//! jobs 82 MB.

mod order;
#[cfg(test)]
mod tests;

use crate::log::Place;
use hashbrown::HashTable;
use imgsys_types::{JobId, Owner, Timestamp};
use order::Order;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    hash::{BuildHasher, RandomState},
};

/// What is known of a job without reading its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) owner: Owner,
    pub(crate) submitted_at: Timestamp,
    /// The number of its run.
    pub(crate) run: u32,
    pub(crate) accepted: Place,
    /// The record with the run's end: the accepted one itself if the run had ended before.
    pub(crate) end: Option<Place>,
}

impl Entry {
    /// The record of its own that the end is in.
    pub(crate) fn result(&self) -> Option<Place> {
        self.end.filter(|end| *end != self.accepted)
    }
}

/// An entry, as small as it can be.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: JobId,
    submitted_at: Timestamp,
    owner: u32,
    run: u32,
    accepted: Place,
    /// Of no length if there is none.
    end: Place,
}

/// A slot with the hash of its job's id, so that a table that grows need not look at all slots, which
/// lie anywhere in memory.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    hash: u32,
    slot: u32,
}

const NOWHERE: Place = Place {
    segment: 0,
    offset: 0,
    len: 0,
};

/// Where a page goes on: by time, then id.
pub(crate) type Key = (Timestamp, JobId);

impl Slot {
    const fn key(&self) -> Key {
        (self.submitted_at, self.id)
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let end = (self.end != self.accepted && self.end.len > 0).then_some(self.end);
        [Some(self.accepted), end].into_iter().flatten()
    }
}

#[derive(Debug)]
struct Jobs {
    owner: Owner,
    order: Order,
}

/// The jobs in the spool.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Slots that are free are of no owner and no length, and stand in `free`.
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashTable<Hashed>,
    /// Ids are the clients' choice: they must not be able to choose where they come to lie.
    hasher: RandomState,
    owners: Vec<Jobs>,
    numbers: BTreeMap<Owner, u32>,
    /// Whose job came last: the next is likely to be theirs too.
    last_owner: u32,
    /// The bytes of jobs' records, by segment.
    used: BTreeMap<u32, u64>,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)
    }

    fn find(&self, job: JobId, hash: u32) -> Option<u32> {
        let same = |hashed: &Hashed| is_job(&self.slots, *hashed, hash, job);
        self.by_id.find(spread(hash), same).map(|found| found.slot)
    }

    fn hash(&self, job: JobId) -> u32 {
        let hash = self.hasher.hash_one(u128::from_ne_bytes(*job.as_bytes()));
        let [a, b, c, d, ..] = hash.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn entry(&self, slot: &Slot) -> Option<Entry> {
        Some(Entry {
            owner: self.owners.get(slot.owner as usize)?.owner.clone(),
            submitted_at: slot.submitted_at,
            run: slot.run,
            accepted: slot.accepted,
            end: (slot.end.len > 0).then_some(slot.end),
        })
    }

    pub(crate) fn get(&self, job: JobId) -> Option<Entry> {
        self.entry(self.slot(self.find(job, self.hash(job))?)?)
    }

    /// Puts a job in, or in the place of what was known of it.
    pub(crate) fn put(&mut self, id: JobId, entry: &Entry) {
        let owner = self.number(&entry.owner);
        let slot = Slot {
            id,
            submitted_at: entry.submitted_at,
            owner,
            run: entry.run,
            accepted: entry.accepted,
            end: entry.end.unwrap_or(NOWHERE),
        };
        let hash = self.hash(id);
        if let Some(number) = self.find(id, hash)
            && let Some(old) = self.slot(number).copied()
        {
            if (old.owner, old.key()) == (owner, slot.key()) {
                self.count(&old, false);
                self.count(&slot, true);
                if let Some(place) = self.slots.get_mut(number as usize) {
                    *place = slot;
                }
                return;
            }
            self.remove(id);
        }
        self.insert(slot, hash);
    }

    /// A job's run has ended, as the record at this place says. Nothing, if there is no such job.
    pub(crate) fn set_end(&mut self, job: JobId, end: Place) {
        let Some(number) = self.find(job, self.hash(job)) else {
            return;
        };
        let Some(old) = self.slot(number).copied() else {
            return;
        };
        let slot = Slot { end, ..old };
        self.count(&old, false);
        self.count(&slot, true);
        if let Some(place) = self.slots.get_mut(number as usize) {
            *place = slot;
        }
    }

    /// How many slots there are to walk over: see [`Index::in_segment`].
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    fn insert(&mut self, slot: Slot, hash: u32) {
        let number = match self.free.pop() {
            Some(number) => number,
            // There are not 2^32 jobs in a memory.
            None => u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
        };
        match self.slots.get_mut(number as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        let hashed = Hashed { hash, slot: number };
        let again = |hashed: &Hashed| spread(hashed.hash);
        self.by_id.insert_unique(spread(hash), hashed, again);
        let slots = &self.slots;
        if let Some(jobs) = self.owners.get_mut(slot.owner as usize) {
            let position = jobs
                .order
                .position(|other| is_before(slots, other, slot.key()));
            jobs.order.insert(position, number);
        }
        self.count(&slot, true);
    }

    pub(crate) fn remove(&mut self, job: JobId) {
        let (slots, hash) = (&self.slots, self.hash(job));
        let same = |hashed: &Hashed| is_job(slots, *hashed, hash, job);
        let Ok(found) = self.by_id.find_entry(spread(hash), same) else {
            return;
        };
        let number = found.remove().0.slot;
        let Some(slot) = self.slots.get(number as usize).copied() else {
            return;
        };
        if let Some(jobs) = self.owners.get_mut(slot.owner as usize) {
            let slots = &self.slots;
            let position = jobs
                .order
                .position(|other| is_before(slots, other, slot.key()));
            jobs.order.remove(position, number);
        }
        self.count(&slot, false);
        if let Some(place) = self.slots.get_mut(number as usize) {
            (place.accepted, place.end) = (NOWHERE, NOWHERE);
        }
        self.free.push(number);
        if self.by_id.is_empty() && self.slots.len() > 4096 {
            // What a flood has taken is given back.
            (self.slots, self.free) = (Vec::new(), Vec::new());
            self.by_id = HashTable::new();
        }
    }

    fn count(&mut self, slot: &Slot, more: bool) {
        for place in slot.places() {
            let used = self.used.entry(place.segment).or_default();
            let len = u64::from(place.len);
            *used = if more {
                *used + len
            } else {
                used.saturating_sub(len)
            };
        }
    }

    fn number(&mut self, owner: &Owner) -> u32 {
        let last = self.owners.get(self.last_owner as usize);
        if last.is_some_and(|jobs| jobs.owner == *owner) {
            return self.last_owner;
        }
        self.last_owner = self.look_up_number(owner);
        self.last_owner
    }

    fn look_up_number(&mut self, owner: &Owner) -> u32 {
        if let Some(&number) = self.numbers.get(owner) {
            return number;
        }
        // There are not 2^32 owners in a memory.
        let number = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        let (owner, order) = (owner.clone(), Order::default());
        self.numbers.insert(owner.clone(), number);
        self.owners.push(Jobs { owner, order });
        number
    }

    /// The bytes that jobs' records take in this segment.
    pub(crate) fn used_in(&self, segment: u32) -> u64 {
        self.used.get(&segment).copied().unwrap_or(0)
    }

    /// The bytes that jobs' records take in all.
    pub(crate) fn used(&self) -> u64 {
        self.used.values().sum()
    }

    /// Nothing more will be in the segments before this one.
    pub(crate) fn forget_segments(&mut self, before: u32) {
        self.used = self.used.split_off(&before);
    }

    /// Jobs with a record in this segment, of at most `count` slots from this one on; and the slot
    /// to go on from, `None` after the last.
    pub(crate) fn in_segment(
        &self,
        segment: u32,
        from: usize,
        count: usize,
    ) -> (Vec<JobId>, Option<usize>) {
        let end = from.saturating_add(count).min(self.slots.len());
        let looked_at = self.slots.get(from..end).unwrap_or_default();
        let is_there = |slot: &&Slot| {
            slot.accepted.len > 0 && slot.places().any(|place| place.segment == segment)
        };
        let found = looked_at.iter().filter(is_there).map(|slot| slot.id);
        (found.collect(), (end < self.slots.len()).then_some(end))
    }

    /// At most `count` jobs from the first of this owner on, owner by owner, the oldest first; from
    /// behind this one on, if any is named.
    pub(crate) fn walk(&self, after: Option<(&Owner, Key)>, count: usize) -> Vec<(JobId, Entry)> {
        let from = after.map(|(owner, _)| owner);
        let owners = match from {
            Some(owner) => self.numbers.range::<Owner, _>(owner..),
            None => self.numbers.range::<Owner, _>(..),
        };
        let jobs = owners.filter_map(|(_, number)| self.owners.get(*number as usize));
        let slots = jobs.flat_map(|jobs| {
            let key = after.and_then(|(owner, key)| (*owner == jobs.owner).then_some(key));
            let position = key.map_or((0, 0), |key| {
                let not_after = |slot| self.slot(slot).is_some_and(|slot| slot.key() <= key);
                jobs.order.position(not_after)
            });
            jobs.order.onwards(position)
        });
        self.entries(slots.take(count))
    }

    /// At most `count` of an owner's jobs, or of all owners', before this key and not before
    /// `since`, the newest first.
    pub(crate) fn newest(
        &self,
        owner: Option<&Owner>,
        before: Option<Key>,
        since: Option<Timestamp>,
        count: usize,
    ) -> Vec<(JobId, Entry)> {
        let whose = match owner {
            Some(owner) => self.numbers.get(owner).map(|number| *number as usize),
            None => None,
        };
        let owners = match (owner, whose) {
            (Some(_), None) => return Vec::new(),
            (_, Some(one)) => self.owners.get(one..=one).unwrap_or_default(),
            (None, None) => &self.owners,
        };
        let mut streams: Vec<_> = owners
            .iter()
            .filter(|jobs| !jobs.order.is_empty())
            .map(|jobs| {
                let is_before = |slot| match before {
                    Some(key) => is_before(&self.slots, slot, key),
                    None => true,
                };
                jobs.order.backwards(jobs.order.position(is_before))
            })
            .collect();
        let key_of = |slot| {
            self.slot(slot)
                .map_or((Timestamp::default(), None), |slot| {
                    (slot.submitted_at, Some(slot.id))
                })
        };
        // The newest of each owner compete.
        let mut heads = BinaryHeap::with_capacity(streams.len());
        for (stream, slots) in streams.iter_mut().enumerate() {
            heads.extend(
                slots
                    .next()
                    .map(|slot| (key_of(slot), Reverse(stream), slot)),
            );
        }
        let mut found = Vec::new();
        while found.len() < count
            && let Some(((time, _), Reverse(stream), slot)) = heads.pop()
        {
            if since.is_some_and(|since| time < since) {
                break;
            }
            found.push(slot);
            let next = streams.get_mut(stream).and_then(Iterator::next);
            heads.extend(next.map(|slot| (key_of(slot), Reverse(stream), slot)));
        }
        self.entries(found.into_iter())
    }

    fn entries(&self, slots: impl Iterator<Item = u32>) -> Vec<(JobId, Entry)> {
        let slots = slots.filter_map(|slot| self.slot(slot));
        slots
            .filter_map(|slot| Some((slot.id, self.entry(slot)?)))
            .collect()
    }
}

/// The table's own hash, made of what is kept of it: all bits of it count.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_job(slots: &[Slot], hashed: Hashed, hash: u32, job: JobId) -> bool {
    let slot = slots.get(hashed.slot as usize);
    hashed.hash == hash && slot.is_some_and(|slot| slot.id == job)
}

fn is_before(slots: &[Slot], slot: u32, key: Key) -> bool {
    slots
        .get(slot as usize)
        .is_some_and(|slot| slot.key() < key)
}
