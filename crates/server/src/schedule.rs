//! Which job goes to Redis next: the most urgent first, and among those one of each owner in turn,
//! so that an owner with ten thousand images does not make another's single image wait.

use imgsys_types::{JobId, Owner, Priority, Run};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A job in the schedule. Only the first few carry all that is known of them; the rest is read from
/// the spool when their turn comes, so that a million waiting jobs fit into memory.
#[derive(Debug)]
pub(crate) enum Turn {
    Ready(Box<Run>),
    Stored(JobId),
}

impl Turn {
    pub(crate) fn id(&self) -> JobId {
        match self {
            Self::Ready(run) => run.job.id,
            Self::Stored(id) => *id,
        }
    }
}

/// A place in line. A job that left the line and came back, to be analysed once more, has another.
#[derive(Debug)]
struct Place {
    ticket: u64,
    turn: Turn,
}

/// The owners of one urgency, in the order in which it is their turn.
#[derive(Debug, Default)]
struct Ring {
    turns: VecDeque<Owner>,
    queues: HashMap<Owner, VecDeque<Place>>,
}

impl Ring {
    fn push(&mut self, owner: &Owner, turn: Place) {
        if let Some(queue) = self.queues.get_mut(owner) {
            queue.push_back(turn);
        } else {
            self.queues.insert(owner.clone(), VecDeque::from([turn]));
            self.turns.push_back(owner.clone());
        }
    }

    fn pop(&mut self) -> Option<Place> {
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
    /// The tickets of those in line.
    waiting: HashMap<JobId, u64>,
    last_ticket: u64,
    ready: usize,
}

/// How many waiting jobs carry all that is known of them.
const MAX_READY: usize = 4096;

impl Schedule {
    /// Puts a job in line, unless it is there already.
    pub(crate) fn push(&mut self, run: Box<Run>) {
        let id = run.job.id;
        if self.waiting.contains_key(&id) {
            return;
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.waiting.insert(id, ticket);
        let owner = run.job.owner.clone();
        let ring = self.rings.entry(run.priority).or_default();
        let turn = if self.ready < MAX_READY {
            self.ready += 1;
            Turn::Ready(run)
        } else {
            Turn::Stored(id)
        };
        ring.push(&owner, Place { ticket, turn });
    }

    /// The job whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Turn> {
        loop {
            let mut entry = self.rings.first_entry()?;
            let Some(Place { ticket, turn }) = entry.get_mut().pop() else {
                entry.remove();
                continue;
            };
            if matches!(turn, Turn::Ready(_)) {
                self.ready -= 1;
            }
            // A withdrawn job is left in its ring and passed over here.
            let id = turn.id();
            if self.waiting.get(&id) == Some(&ticket) {
                self.waiting.remove(&id);
                return Some(turn);
            }
        }
    }

    /// Takes a job out of line; whether it was in it.
    pub(crate) fn withdraw(&mut self, id: JobId) -> bool {
        self.waiting.remove(&id).is_some()
    }

    pub(crate) fn contains(&self, id: JobId) -> bool {
        self.waiting.contains_key(&id)
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
    use imgsys_types::{Digest, Job, ServerId, Timestamp};

    fn job(owner: &str, priority: u8, name: &str) -> Run {
        Run::submission(Job {
            id: JobId::generate(),
            owner: owner.parse().unwrap(),
            sha256: Digest::from_bytes([0; 32]),
            name: name.into(),
            size: 1,
            priority: Priority::new(priority).unwrap(),
            submitted_at: Timestamp::now(),
            server: ServerId::generate(),
        })
    }

    fn order(schedule: &mut Schedule) -> Vec<String> {
        std::iter::from_fn(|| schedule.pop())
            .map(|turn| match turn {
                Turn::Ready(run) => run.job.name,
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
        let id = first.job.id;
        schedule.push(Box::new(first.clone()));
        schedule.push(Box::new(first));
        schedule.push(Box::new(job("a", 5, "second")));
        assert_eq!(schedule.len(), 2);
        assert!(schedule.withdraw(id));
        assert!(!schedule.withdraw(id));
        assert_eq!(order(&mut schedule), ["second"]);
    }

    #[test]
    fn a_run_that_was_withdrawn_does_not_come_back_with_the_next() {
        let mut schedule = Schedule::default();
        let first = job("a", 5, "first");
        let next = Run {
            number: 1,
            priority: Priority::new(9).unwrap(),
            ..first.clone()
        };
        let id = first.job.id;
        schedule.push(Box::new(first));
        assert!(schedule.withdraw(id));
        schedule.push(Box::new(next.clone()));
        let Some(Turn::Ready(run)) = schedule.pop() else {
            panic!("nothing is in line");
        };
        assert_eq!(*run, next);
        assert!(schedule.pop().is_none());
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
