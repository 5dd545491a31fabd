//! Accepted events that wait for their job's end, so that both become one row at once.
//!
//! A row that is written when its job is accepted is written once more when the job has ended, with all
//! its entries in indexes, which costs PostgreSQL half as much again. While many events come most jobs end
//! within moments, so an event that only accepts one waits for a while, and is written with the end; or
//! without, once the while is over. It is unsettled meanwhile, like any other event at hand.

use imgsys_queue::events::Entry;
use imgsys_types::{JobId, JobRecord};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

/// The most that wait; beyond it the oldest are written.
const MOST: usize = 4000;

/// The events that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// How long each may.
    limit: Duration,
    /// In the order in which they came.
    entries: BTreeMap<u64, (Instant, Entry)>,
    /// The places of a job's events, in order. Another owner's may share its id.
    jobs: HashMap<JobId, Vec<u64>>,
    next: u64,
}

impl Waiting {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            entries: BTreeMap::new(),
            jobs: HashMap::new(),
            next: 0,
        }
    }

    /// How long until one has waited enough; `None` if there is none.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.entries.values().next()?;
        Some((*since + self.limit).saturating_duration_since(now))
    }

    /// What is to be written now that these events have come, in the order in which all came: those that
    /// only accept a job wait from now on, any other brings what waits of its job, and so does time.
    pub(crate) fn exchange(&mut self, came: Vec<Entry>, now: Instant) -> Vec<Entry> {
        let ended: HashSet<JobId> = came.iter().filter_map(ended).collect();
        let (wait, write): (Vec<_>, Vec<_>) = came
            .into_iter()
            .partition(|entry| accepted(entry).is_some_and(|job| !ended.contains(&job)));
        let mut out = Vec::with_capacity(write.len());
        for job in ended {
            for place in self.jobs.remove(&job).unwrap_or_default() {
                out.extend(self.entries.remove(&place).map(|(_, entry)| entry));
            }
        }
        for entry in wait {
            self.push(entry, now);
        }
        while self.entries.len() > MOST || self.due_in(now).is_some_and(|left| left.is_zero()) {
            out.extend(self.pop());
        }
        // They came before.
        out.extend(write);
        out
    }

    /// All that wait, before these.
    pub(crate) fn all(&mut self, came: Vec<Entry>) -> Vec<Entry> {
        self.jobs.clear();
        let waited = std::mem::take(&mut self.entries).into_values();
        waited.map(|(_, entry)| entry).chain(came).collect()
    }

    fn push(&mut self, entry: Entry, now: Instant) {
        if let Some(job) = accepted(&entry) {
            self.jobs.entry(job).or_default().push(self.next);
            self.entries.insert(self.next, (now, entry));
            self.next += 1;
        }
    }

    /// The oldest.
    fn pop(&mut self) -> Option<Entry> {
        let (place, (_, entry)) = self.entries.pop_first()?;
        if let Some(job) = accepted(&entry)
            && let Some(places) = self.jobs.get_mut(&job)
        {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.jobs.remove(&job);
            }
        }
        Some(entry)
    }
}

/// The job that an event has ended.
fn ended(entry: &Entry) -> Option<JobId> {
    match &entry.event {
        Ok(JobRecord {
            job,
            result: Some(_),
        }) => Some(job.id),
        _ => None,
    }
}

/// The job of which an event says only that it was accepted.
fn accepted(entry: &Entry) -> Option<JobId> {
    match &entry.event {
        Ok(JobRecord { job, result: None }) => Some(job.id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::{JobResult, arbitrary};
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };

    const LIMIT: Duration = Duration::from_millis(500);

    /// A job's two events; their places in the stream tell them apart.
    fn events(number: usize) -> [Entry; 2] {
        let mut runner = TestRunner::deterministic();
        let strategy = (arbitrary::job(), arbitrary::job_result());
        let (mut job, result) = strategy.new_tree(&mut runner).unwrap().current();
        job.id = JobId::from_bytes([u8::try_from(number).unwrap(); 16]);
        let entry = |what: &str, result: Option<JobResult>| Entry {
            id: format!("{what} {number}"),
            event: Ok(JobRecord {
                job: job.clone(),
                result,
            }),
            told: false,
        };
        [entry("accepted", None), entry("ended", Some(result))]
    }

    fn ids(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn accepted_and_ended_come_together() {
        let mut waiting = Waiting::new(LIMIT);
        let now = Instant::now();
        let [[first, end], [second, _], [third, third_end]] = [1, 2, 3].map(events);
        let out = waiting.exchange(vec![first, second, third, third_end], now);
        assert_eq!(ids(&out), ["accepted 3", "ended 3"]);
        let out = waiting.exchange(vec![end.clone()], now);
        assert_eq!(ids(&out), ["accepted 1", "ended 1"]);
        // What came late waits for nobody.
        assert_eq!(ids(&waiting.exchange(vec![end], now)), ["ended 1"]);
        assert_eq!(ids(&waiting.all(Vec::new())), ["accepted 2"]);
        assert_eq!(waiting.due_in(now), None);
    }

    #[test]
    fn none_waits_longer_than_it_may() {
        let mut waiting = Waiting::new(LIMIT);
        let now = Instant::now();
        let [[first, end], [second, _]] = [1, 2].map(events);
        assert!(waiting.exchange(vec![first], now).is_empty());
        assert!(waiting.exchange(vec![second], now + LIMIT / 2).is_empty());
        assert_eq!(waiting.due_in(now + LIMIT / 2), Some(LIMIT / 2));
        let out = waiting.exchange(Vec::new(), now + LIMIT);
        assert_eq!(ids(&out), ["accepted 1"]);
        assert_eq!(ids(&waiting.exchange(vec![end], now + LIMIT)), ["ended 1"]);
        assert_eq!(waiting.due_in(now + LIMIT), Some(LIMIT / 2));
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut waiting = Waiting::new(LIMIT);
        let now = Instant::now();
        let [accepted, end] = events(1);
        // Of one job, so that the same list is shortened and then taken.
        let out = waiting.exchange(vec![accepted; MOST + 3], now);
        assert_eq!(out.len(), 3);
        assert_eq!(waiting.exchange(vec![end], now).len(), MOST + 1);
        assert!(waiting.jobs.is_empty() && waiting.entries.is_empty());
    }
}
