//! The jobs without a result, in as little memory as will do: there may be millions.

use crate::schedule::Ticket;
use imgsys_types::{JobId, JobMap, Owner, Run, Timestamp};
use std::collections::{BTreeMap, HashMap};

const SECOND: i64 = 1_000_000;

/// What is known of a job without a result.
#[derive(Debug)]
pub(crate) struct Open {
    /// In seconds since 1970.
    accepted: u32,
    /// Its place in line for Redis.
    pub(crate) ticket: Option<Ticket>,
    /// Whether Redis and the database are to be asked about it.
    pub(crate) unsure: bool,
}

/// The jobs without a result.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    jobs: JobMap<Open>,
    /// How many each owner has.
    of: HashMap<Owner, usize>,
    /// How many were accepted in which second.
    accepted: BTreeMap<u32, usize>,
}

impl Unfinished {
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, jobs: usize) {
        self.jobs.reserve(jobs);
    }

    /// Takes a job in, unless it is here already; whether it was not.
    pub(crate) fn add(
        &mut self,
        (id, owner): (JobId, &Owner),
        accepted_at: Timestamp,
        unsure: bool,
    ) -> bool {
        if self.jobs.contains(id) {
            return false;
        }
        let accepted = second(accepted_at);
        let open = Open {
            accepted,
            ticket: None,
            unsure,
        };
        self.jobs.insert(id, open);
        *self.accepted.entry(accepted).or_default() += 1;
        // An owner with a million jobs needs no million copies of his name.
        match self.of.get_mut(owner) {
            Some(count) => *count += 1,
            None => drop(self.of.insert(owner.clone(), 1)),
        }
        true
    }

    /// Takes a job out.
    pub(crate) fn remove(&mut self, run: &Run) {
        let Some(open) = self.jobs.remove(run.job.id) else {
            return;
        };
        if let Some(count) = self.accepted.get_mut(&open.accepted) {
            *count -= 1;
            if *count == 0 {
                self.accepted.remove(&open.accepted);
            }
        }
        if let Some(count) = self.of.get_mut(&run.job.owner) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&run.job.owner);
            }
        }
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Open> {
        self.jobs.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Open> {
        self.jobs.get_mut(id)
    }

    /// How many of them this owner has.
    pub(crate) fn of(&self, owner: &Owner) -> usize {
        self.of.get(owner).copied().unwrap_or(0)
    }

    /// When the oldest was accepted, to the second.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let (&second, _) = self.accepted.first_key_value()?;
        Some(Timestamp::from_micros(i64::from(second) * SECOND))
    }
}

/// The clock of a machine may be wrong, but not by a century.
fn second(time: Timestamp) -> u32 {
    let second = time.as_micros().div_euclid(SECOND).max(0);
    u32::try_from(second).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::{Digest, Job, Priority, ServerId};

    fn run(owner: &str, micros: i64) -> Run {
        Run::submission(Job {
            id: JobId::generate(),
            owner: owner.parse().unwrap(),
            sha256: Digest::from_bytes([0; 32]),
            name: String::new(),
            size: 1,
            priority: Priority::default(),
            submitted_at: Timestamp::from_micros(micros),
            server: ServerId::generate(),
        })
    }

    #[test]
    fn each_counts_once_until_it_is_taken_out() {
        let mut unfinished = Unfinished::default();
        let runs = [
            run("a", 7_900_000),
            run("a", 5_100_000),
            run("b", 7_000_000),
        ];
        for run in runs.iter().chain(&runs) {
            let job = (run.job.id, &run.job.owner);
            unfinished.add(job, run.accepted_at, false);
        }
        let counts = |unfinished: &Unfinished| {
            let [a, b] = ["a", "b"].map(|owner| unfinished.of(&owner.parse().unwrap()));
            let oldest = unfinished.oldest().map(Timestamp::as_micros);
            (a, b, oldest)
        };
        assert_eq!(counts(&unfinished), (2, 1, Some(5_000_000)));
        for _ in 0..2 {
            unfinished.remove(&runs[1]);
            assert_eq!(counts(&unfinished), (1, 1, Some(7_000_000)));
        }
        unfinished.remove(&runs[0]);
        unfinished.remove(&runs[2]);
        assert_eq!(counts(&unfinished), (0, 0, None));
    }
}
