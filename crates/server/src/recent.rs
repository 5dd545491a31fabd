//! The jobs that have ended, and those of them that left the spool a short while ago.

use imgsys_queue::Persisted;
use imgsys_types::{Digest, JobId, Owner, Run, Timestamp};
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What is remembered of a job that has ended, until it is in the database and for a while after.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) owner: Owner,
    pub(crate) sha256: Digest,
    pub(crate) submitted_at: Timestamp,
    /// The newest run, and when it ended, by which its results are told apart.
    run: u32,
    finished_at: Timestamp,
    pub(crate) since: Instant,
}

impl Ended {
    pub(crate) fn of(run: &Run, finished_at: Timestamp) -> Self {
        let job = &run.job;
        Self {
            run: run.number,
            finished_at,
            owner: job.owner.clone(),
            sha256: job.sha256,
            submitted_at: job.submitted_at,
            since: Instant::now(),
        }
    }

    /// Whether this very result is its end, or that of a later run.
    pub(crate) fn is_of(&self, persisted: &Persisted) -> bool {
        self.run < persisted.run
            || self.run == persisted.run && self.finished_at == persisted.finished_at
    }
}

/// How long a job is remembered. It must exceed how old an id may be to count as fresh by more than
/// clocks differ.
const REMEMBER: Duration = Duration::from_secs(300);
/// The most jobs remembered.
const MOST: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    jobs: HashMap<JobId, Ended>,
    order: VecDeque<(Instant, JobId)>,
}

impl Recent {
    pub(crate) fn get(&self, id: JobId) -> Option<&Ended> {
        self.jobs.get(&id)
    }

    /// Remembers a job; whether others had to be forgotten too early for that.
    pub(crate) fn insert(&mut self, id: JobId, ended: Ended) -> bool {
        let now = Instant::now();
        if self.jobs.insert(id, ended).is_none() {
            self.order.push_back((now, id));
        }
        let mut too_early = false;
        while let Some(&(at, oldest)) = self.order.front() {
            let full = self.order.len() > MOST;
            if !full && now.duration_since(at) < REMEMBER {
                break;
            }
            too_early |= full;
            self.order.pop_front();
            self.jobs.remove(&oldest);
        }
        too_early
    }
}
