//! Which job goes to Redis next: the most urgent first, and among those one of each owner in turn,
//! so that an owner with ten thousand images does not make another's single image wait.

use imgsys_types::{Job, JobId, Owner, Priority};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// A job in the schedule. Only the first few carry all that is known of them; the rest is read from
/// the spool when their turn comes, so that a million waiting jobs fit into memory.
#[derive(Debug)]
pub(crate) enum Turn {
    Ready(Box<Job>),
    Stored(JobId),
}

impl Turn {
    pub(crate) fn id(&self) -> JobId {
        match self {
            Self::Ready(job) => job.id,
            Self::Stored(id) => *id,
        }
    }
}

/// The owners of one urgency, in the order in which it is their turn.
#[derive(Debug, Default)]
struct Ring {
    turns: VecDeque<Owner>,
    queues: HashMap<Owner, VecDeque<Turn>>,
}

impl Ring {
    fn push(&mut self, owner: &Owner, turn: Turn) {
        if let Some(queue) = self.queues.get_mut(owner) {
            queue.push_back(turn);
        } else {
            self.queues.insert(owner.clone(), VecDeque::from([turn]));
            self.turns.push_back(owner.clone());
        }
    }

    fn pop(&mut self) -> Option<Turn> {
        let owner = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&owner)?;
        let turn = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        turn
    }
}

/// The jobs that wait for a place in Redis.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    rings: BTreeMap<Priority, Ring>,
    waiting: HashSet<JobId>,
    ready: usize,
}

/// How many waiting jobs carry all that is known of them.
const MAX_READY: usize = 4096;

impl Schedule {
    /// Puts a job in line, unless it is there already.
    pub(crate) fn push(&mut self, job: Box<Job>) {
        if !self.waiting.insert(job.id) {
            return;
        }
        let owner = job.owner.clone();
        let ring = self.rings.entry(job.priority).or_default();
        if self.ready < MAX_READY {
            self.ready += 1;
            ring.push(&owner, Turn::Ready(job));
        } else {
            ring.push(&owner, Turn::Stored(job.id));
        }
    }

    /// The job whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Turn> {
        loop {
            let mut entry = self.rings.first_entry()?;
            let Some(turn) = entry.get_mut().pop() else {
                entry.remove();
                continue;
            };
            if matches!(turn, Turn::Ready(_)) {
                self.ready -= 1;
            }
            // A withdrawn job is left in its ring and passed over here.
            if self.waiting.remove(&turn.id()) {
                return Some(turn);
            }
        }
    }

    /// Takes a job out of line; whether it was in it.
    pub(crate) fn withdraw(&mut self, id: JobId) -> bool {
        self.waiting.remove(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::{Digest, ServerId, Timestamp};

    fn job(owner: &str, priority: u8, name: &str) -> Job {
        Job {
            id: JobId::generate(),
            owner: owner.parse().unwrap(),
            sha256: Digest::from_bytes([0; 32]),
            name: name.into(),
            size: 1,
            priority: Priority::new(priority).unwrap(),
            submitted_at: Timestamp::now(),
            server: ServerId::generate(),
        }
    }

    fn order(schedule: &mut Schedule) -> Vec<String> {
        std::iter::from_fn(|| schedule.pop())
            .map(|turn| match turn {
                Turn::Ready(job) => job.name,
                Turn::Stored(id) => id.to_string(),
            })
            .collect()
    }

    #[test]
    fn urgent_first_then_each_owner_in_turn() {
        let mut schedule = Schedule::default();
        for (owner, priority, name) in [
            ("a", 5, "a1"),
            ("a", 5, "a2"),
            ("a", 5, "a3"),
            ("b", 5, "b1"),
            ("c", 9, "c1"),
            ("b", 0, "b0"),
        ] {
            schedule.push(Box::new(job(owner, priority, name)));
        }
        assert_eq!(order(&mut schedule), ["b0", "a1", "b1", "a2", "a3", "c1"]);
        assert!(schedule.is_empty());
    }

    #[test]
    fn a_job_is_in_line_once_and_can_leave_it() {
        let mut schedule = Schedule::default();
        let first = job("a", 5, "first");
        let id = first.id;
        schedule.push(Box::new(first.clone()));
        schedule.push(Box::new(first));
        schedule.push(Box::new(job("a", 5, "second")));
        assert_eq!(schedule.len(), 2);
        assert!(schedule.withdraw(id));
        assert!(!schedule.withdraw(id));
        assert_eq!(order(&mut schedule), ["second"]);
    }

    #[test]
    fn beyond_the_first_thousands_only_ids_are_kept() {
        let mut schedule = Schedule::default();
        for _ in 0..=MAX_READY {
            schedule.push(Box::new(job("a", 5, "x")));
        }
        let stored = std::iter::from_fn(|| schedule.pop())
            .filter(|turn| matches!(turn, Turn::Stored(_)))
            .count();
        assert_eq!(stored, 1);
    }
}
