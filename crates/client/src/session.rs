//! The sending of many files and the waiting for many jobs, as a state machine without I/O.
//!
//! The driver tells it what happened ([`Session::add`], [`Session::connected`],
//! [`Session::receive`], …) and does what [`Session::poll`] asks for, until that is nothing.
//!
//! A file goes hash → ask → send → watch. It is given its job id once; after a lost connection the
//! same id is asked for again, so that nothing is analysed twice and nothing is left out:
//! accepted jobs are watched, the others submitted again.

mod answers;
mod entry;
mod requests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::{
    files::{Found, Hashed, Problem},
    report::{End, Report, reason},
};
use bytes::Bytes;
use entry::{Entry, Stage};
use imgsys_proto::ClientMessage;
use imgsys_types::{ErrorCode, JobId, Limits, Priority};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

/// The most jobs that are kept at once, however many the server lets one watch.
const MAX_JOBS: usize = 100_000;

/// How a session goes about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Files that are hashed or sent at once.
    pub(crate) jobs: usize,
    /// Whether to wait for results; otherwise a job's story ends with `accepted`.
    pub(crate) wait: bool,
    /// How urgent the jobs are.
    pub(crate) priority: Priority,
    /// How long a request that is refused for now is made again.
    pub(crate) patience: Duration,
    /// How often the connection may break over the same bytes before they are thought the cause.
    pub(crate) max_cuts: u32,
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Hash this file, then call [`Session::hashed`] or [`Session::failed`].
    Hash {
        /// The job.
        job: JobId,
        /// The file.
        path: PathBuf,
    },
    /// Send this message.
    Send(ClientMessage),
    /// Send this message with a body; call [`Session::failed`] if there is none to be had.
    SendBody {
        /// The job.
        job: JobId,
        /// The head.
        submit: ClientMessage,
        /// The body.
        body: Body,
    },
    /// Tell this.
    Report(Report),
}

/// Where a body comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// From memory.
    Kept(Bytes),
    /// From a file of this size.
    File {
        /// The file.
        path: PathBuf,
        /// How many bytes were announced.
        size: u64,
    },
}

/// What a request was about.
#[derive(Debug)]
enum Pending {
    Submit(JobId),
    Watch(Vec<JobId>),
    Name(JobId),
}

/// All jobs on their way.
#[derive(Debug)]
pub(crate) struct Session {
    rules: Rules,
    entries: HashMap<JobId, Entry>,
    /// Entries that are accepted.
    accepted: usize,
    /// Entries in [`Stage::Asking`] or [`Stage::Sending`].
    in_flight: usize,
    /// Entries in [`Stage::Watching`].
    watched: usize,
    to_hash: VecDeque<JobId>,
    to_ask: VecDeque<JobId>,
    to_watch: VecDeque<JobId>,
    to_name: VecDeque<JobId>,
    later: BTreeSet<(Instant, JobId)>,
    /// What waits to be done, reports above all.
    ready: VecDeque<Action>,
    pending: HashMap<u64, Pending>,
    next_req: u64,
    /// The server's limits while there is a connection.
    limits: Option<Limits>,
    refusal: Option<(ErrorCode, String)>,
    ever_accepted: bool,
}

impl Session {
    /// A session without jobs or connection.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: HashMap::new(),
            accepted: 0,
            in_flight: 0,
            watched: 0,
            to_hash: VecDeque::new(),
            to_ask: VecDeque::new(),
            to_watch: VecDeque::new(),
            to_name: VecDeque::new(),
            later: BTreeSet::new(),
            ready: VecDeque::new(),
            pending: HashMap::new(),
            next_req: 1,
            limits: None,
            refusal: None,
            ever_accepted: false,
        }
    }

    /// Takes up a file under a new job id.
    pub(crate) fn add(&mut self, file: Found, now: Instant) -> JobId {
        let job = JobId::generate();
        self.entries.insert(job, Entry::file(file, now));
        self.to_hash.push_back(job);
        job
    }

    /// Takes up a job that was accepted in another session.
    pub(crate) fn add_job(&mut self, job: JobId, now: Instant) {
        if self.entries.insert(job, Entry::job(now)).is_none() {
            self.accepted += 1;
            self.to_watch.push_back(job);
        }
    }

    /// Whether another file may be added: at most [`Rules::jobs`] that are not accepted yet, and
    /// in all no more than the server lets one watch.
    pub(crate) fn wants_more(&self) -> bool {
        let most = self.limits.map_or(MAX_JOBS, |limits| {
            usize::try_from(limits.max_watched)
                .unwrap_or(MAX_JOBS)
                .clamp(1, MAX_JOBS)
        });
        self.entries.len() < most && self.entries.len() - self.accepted < self.submits_allowed()
    }

    /// Whether no job is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.ready.is_empty()
    }

    /// Jobs that are accepted and not answered.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// Jobs that are not accepted yet.
    pub(crate) fn unaccepted(&self) -> usize {
        self.entries.len() - self.accepted
    }

    /// Whether a server has ever promised to keep something in this session.
    pub(crate) fn ever_accepted(&self) -> bool {
        self.ever_accepted
    }

    /// The refusal that concerns the whole session, if there was one.
    pub(crate) fn refusal(&self) -> Option<&(ErrorCode, String)> {
        self.refusal.as_ref()
    }

    /// When [`Session::poll`] is to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// There is a connection.
    pub(crate) fn connected(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// The connection is lost: all that was said on it is to be said again.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.limits = None;
        self.pending.clear();
        self.ready
            .retain(|action| matches!(action, Action::Report(_)));
        let mut touched: Vec<JobId> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                matches!(
                    entry.stage,
                    Stage::Asking | Stage::Sending | Stage::Watching | Stage::Naming(_)
                )
            })
            .map(|(job, _)| *job)
            .collect();
        // In the order in which they came.
        touched.sort_unstable();
        for job in touched {
            let Some(entry) = self.entries.get_mut(&job) else {
                continue;
            };
            let next = match &entry.stage {
                Stage::Watching => Stage::Watch,
                Stage::Naming(result) => Stage::Name(result.clone()),
                Stage::Sending => {
                    entry.cuts += 1;
                    if entry.cuts >= self.rules.max_cuts {
                        let cuts = entry.cuts;
                        let detail = format!("the connection broke {cuts} times while it was sent");
                        self.fail(job, reason::UNREACHABLE, detail, now);
                        continue;
                    }
                    Stage::Ask
                }
                _ => Stage::Ask,
            };
            self.set(job, next);
        }
    }

    /// A file was hashed.
    pub(crate) fn hashed(&mut self, job: JobId, hashed: Hashed) {
        if let Some(entry) = self.entries.get_mut(&job)
            && entry.stage == Stage::Hashing
        {
            entry.sha256 = Some(hashed.sha256);
            entry.kept = hashed.kept;
            if let Some(file) = &mut entry.file {
                file.size = hashed.size;
            }
            self.set(job, Stage::Ask);
        }
    }

    /// A file could not be read.
    pub(crate) fn failed(&mut self, job: JobId, problem: Problem, now: Instant) {
        if self.entries.get(&job).is_some_and(|entry| !entry.accepted) {
            self.fail(job, problem.reason, problem.detail, now);
        }
    }

    /// Ends the story of every job that is left: accepted ones as pending, the others as failed.
    pub(crate) fn give_up(&mut self, reason: &'static str, detail: &str, now: Instant) {
        let mut left: Vec<JobId> = self.entries.keys().copied().collect();
        left.sort_unstable();
        for job in left {
            let Some(entry) = self.entries.get(&job) else {
                continue;
            };
            let end = match &entry.stage {
                Stage::Name(result) | Stage::Naming(result) => End::Answered(result.clone()),
                _ if entry.accepted => End::Pending(detail.to_owned()),
                _ => End::Failed {
                    reason,
                    detail: detail.to_owned(),
                },
            };
            self.end(job, end, now);
        }
    }

    /// How many submits may be in flight.
    fn submits_allowed(&self) -> usize {
        let server = self
            .limits
            .map_or(usize::MAX, |limits| limits.max_in_flight as usize);
        self.rules.jobs.min(server).max(1)
    }

    fn request(&mut self, about: Pending) -> u64 {
        let req = self.next_req;
        self.next_req += 1;
        self.pending.insert(req, about);
        req
    }

    fn stage(&self, job: JobId) -> Option<&Stage> {
        self.entries.get(&job).map(|entry| &entry.stage)
    }
}
