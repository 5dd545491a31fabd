//! What is known of each of millions of jobs.

use crate::JobId;
use hashbrown::{HashTable, hash_table::Entry};
use std::{
    hash::{BuildHasher, RandomState},
    mem,
};

/// Below this many entries nothing is given back.
const SMALL: usize = 1 << 12;

/// Values by the id of their job: a `HashMap` in less memory.
///
/// Entries lie side by side. What is spread over a table, whose size is a power of two and a good part
/// of which is empty, are their places, of four bytes. A million entries of 32 bytes take 43 MB rather
/// than 69. What entries took that have gone is given back.
#[derive(Debug, Clone)]
pub struct JobMap<V> {
    entries: Vec<(JobId, V)>,
    places: HashTable<u32>,
    hasher: RandomState,
}

impl<V> Default for JobMap<V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<V> JobMap<V> {
    /// How many jobs there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for so many more, and no more than these.
    pub fn reserve(&mut self, jobs: usize) {
        let Self {
            entries,
            places,
            hasher,
        } = self;
        entries.reserve_exact(jobs);
        places.reserve(jobs, |&place| hasher.hash_one(entries[place as usize].0));
    }

    /// The job's value.
    #[must_use]
    pub fn get(&self, job: JobId) -> Option<&V> {
        let place = self.place(job)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The job's value, to be changed.
    pub fn get_mut(&mut self, job: JobId) -> Option<&mut V> {
        let place = self.place(job)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Whether the job has a value.
    #[must_use]
    pub fn contains(&self, job: JobId) -> bool {
        self.place(job).is_some()
    }

    /// Gives the job this value, and gives back the one that it had.
    pub fn insert(&mut self, job: JobId, value: V) -> Option<V> {
        let Self {
            entries,
            places,
            hasher,
        } = self;
        let entry = places.entry(
            hasher.hash_one(job),
            |&place| entries[place as usize].0 == job,
            |&place| hasher.hash_one(entries[place as usize].0),
        );
        match entry {
            Entry::Occupied(found) => {
                let (_, known) = &mut entries[*found.get() as usize];
                Some(mem::replace(known, value))
            }
            Entry::Vacant(free) => {
                free.insert(place(entries.len()));
                entries.push((job, value));
                None
            }
        }
    }

    /// Takes the job and its value out.
    pub fn remove(&mut self, job: JobId) -> Option<V> {
        let Self {
            entries,
            places,
            hasher,
        } = self;
        let is_it = |&place: &u32| entries[place as usize].0 == job;
        let found = places.find_entry(hasher.hash_one(job), is_it).ok()?;
        let (freed, _) = found.remove();
        let (_, value) = entries.swap_remove(freed as usize);
        // The last entry has its place now, unless it was the last itself.
        if let Some((moved, _)) = entries.get(freed as usize) {
            let last = place(entries.len());
            let moved = places.find_mut(hasher.hash_one(moved), |&place| place == last);
            if let Some(place) = moved {
                *place = freed;
            }
        }
        let left = entries.len();
        if entries.capacity() > SMALL && left < entries.capacity() / 4 {
            entries.shrink_to(left * 2);
            places.shrink_to(left * 2, |&place| {
                hasher.hash_one(entries[place as usize].0)
            });
        }
        Some(value)
    }

    fn place(&self, job: JobId) -> Option<usize> {
        let is_it = |&place: &u32| self.entries[place as usize].0 == job;
        let place = self.places.find(self.hasher.hash_one(job), is_it);
        place.map(|&place| place as usize)
    }
}

/// There are not 2^32 jobs in a memory; if there were, the last would not be found.
fn place(entry: usize) -> u32 {
    u32::try_from(entry).unwrap_or(u32::MAX)
}

#[cfg(test)]
// Tests fail by panicking.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn job(number: u64) -> JobId {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        JobId::from_bytes(bytes)
    }

    #[test]
    fn it_does_as_a_hash_map_does() {
        let (mut map, mut expected) = (JobMap::default(), HashMap::new());
        let mut state = 1_u64;
        for round in 0..60_000 {
            // A linear congruence, whose high bits are random enough.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = job((state >> 33) % 8_000);
            // It grows at first, then shrinks to nothing or nearly so.
            let grows = (state >> 60) < if round < 20_000 { 12 } else { 3 };
            if grows {
                assert_eq!(map.insert(id, round), expected.insert(id, round));
            } else {
                assert_eq!(map.remove(id), expected.remove(&id));
            }
            assert_eq!(map.len(), expected.len());
        }
        for number in 0..8_000 {
            let id = job(number);
            assert_eq!(map.get(id), expected.get(&id));
            assert_eq!(map.get_mut(id), expected.get_mut(&id));
            assert_eq!(map.contains(id), expected.contains_key(&id));
        }
    }

    #[test]
    fn room_is_made_for_what_is_asked_and_given_back() {
        let mut map = JobMap::default();
        map.reserve(100_000);
        let room = map.entries.capacity();
        assert_eq!(room, 100_000);
        for number in 0..100_000 {
            map.insert(job(number), ());
        }
        assert_eq!(map.entries.capacity(), room);
        for number in 0..100_000 {
            map.remove(job(number)).unwrap();
        }
        assert!(map.is_empty());
        assert!(map.entries.capacity() <= SMALL);
        assert!(map.places.capacity() <= 2 * SMALL);
    }
}
