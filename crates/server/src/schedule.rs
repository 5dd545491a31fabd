//! Which job goes to Redis next: the most urgent first, and among those one of each owner in turn,
//! so that an owner with ten thousand images does not make another's single image wait.

use imgsys_types::{JobId, Owner, Priority, Run};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroU32,
};

/// A job whose turn it is. Only the first few carry all that is known of them; the rest is read from
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

/// Tells the places that a job has in line one after the other from each other: it may leave the line
/// and come back, to be analysed once more.
pub(crate) type Ticket = NonZeroU32;

/// A place in line.
#[derive(Debug)]
struct Place {
    job: JobId,
    ticket: Ticket,
}

/// The owners of one urgency, in the order in which it is their turn.
#[derive(Debug, Default)]
struct Ring {
    turns: VecDeque<Owner>,
    queues: HashMap<Owner, VecDeque<Place>>,
}

impl Ring {
    fn push(&mut self, owner: &Owner, place: Place) {
        if let Some(queue) = self.queues.get_mut(owner) {
            queue.push_back(place);
        } else {
            self.queues.insert(owner.clone(), VecDeque::from([place]));
            self.turns.push_back(owner.clone());
        }
    }

    fn pop(&mut self) -> Option<Place> {
        let owner = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&owner)?;
        let place = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        place
    }
}

/// The jobs that wait for a place in Redis. Whose ticket is still good its owner knows: who leaves the
/// line stays here until its turn comes, and is passed over then.
#[derive(Debug)]
pub(crate) struct Schedule {
    rings: BTreeMap<Priority, Ring>,
    ready: HashMap<Ticket, Box<Run>>,
    last_ticket: Ticket,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            rings: BTreeMap::new(),
            ready: HashMap::new(),
            last_ticket: Ticket::MIN,
        }
    }
}

/// How many waiting jobs carry all that is known of them.
const MAX_READY: usize = 4096;

impl Schedule {
    /// Puts a job in line.
    pub(crate) fn push(&mut self, run: Box<Run>) -> Ticket {
        // By the time that four thousand million have been given out the first are long gone.
        self.last_ticket = self.last_ticket.checked_add(1).unwrap_or(Ticket::MIN);
        let ticket = self.last_ticket;
        let job = run.job.id;
        let ring = self.rings.entry(run.priority).or_default();
        ring.push(&run.job.owner, Place { job, ticket });
        if self.ready.len() < MAX_READY {
            self.ready.insert(ticket, run);
        }
        ticket
    }

    /// The job whose turn it is, of those whose ticket is still good.
    pub(crate) fn pop(&mut self, is_good: impl Fn(JobId, Ticket) -> bool) -> Option<Turn> {
        loop {
            let mut entry = self.rings.first_entry()?;
            let Some(Place { job, ticket }) = entry.get_mut().pop() else {
                entry.remove();
                continue;
            };
            let ready = self.ready.remove(&ticket);
            if is_good(job, ticket) {
                return Some(ready.map_or(Turn::Stored(job), Turn::Ready));
            }
        }
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

    fn names(schedule: &mut Schedule, is_good: impl Fn(JobId, Ticket) -> bool) -> Vec<String> {
        std::iter::from_fn(|| schedule.pop(&is_good))
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
        let order = names(&mut schedule, |_, _| true);
        assert_eq!(order, ["b0", "a1", "b1", "a2", "a3", "c1"]);
        assert!(schedule.pop(|_, _| true).is_none());
    }

    #[test]
    fn who_has_left_the_line_is_passed_over() {
        let mut schedule = Schedule::default();
        let gone = schedule.push(Box::new(job("a", 5, "first")));
        schedule.push(Box::new(job("a", 5, "second")));
        let order = names(&mut schedule, |_, ticket| ticket != gone);
        assert_eq!(order, ["second"]);
        assert!(schedule.ready.is_empty(), "{schedule:?}");
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
        schedule.push(Box::new(first));
        let good = schedule.push(Box::new(next.clone()));
        let is_good = |_, ticket| ticket == good;
        let Some(Turn::Ready(run)) = schedule.pop(is_good) else {
            panic!("nothing is in line");
        };
        assert_eq!(*run, next);
        assert!(schedule.pop(is_good).is_none());
    }

    #[test]
    fn beyond_the_first_thousands_only_ids_are_kept() {
        let mut schedule = Schedule::default();
        for _ in 0..=MAX_READY {
            schedule.push(Box::new(job("a", 5, "x")));
        }
        let stored = std::iter::from_fn(|| schedule.pop(|_, _| true))
            .filter(|turn| matches!(turn, Turn::Stored(_)))
            .count();
        assert_eq!(stored, 1);
    }
}
