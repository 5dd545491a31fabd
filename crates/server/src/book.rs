//! What the server has in its head of its unfinished jobs: where each stands, and who waits for it.
//!
//! The spool on the disk is the truth; this is rebuilt from it at start. A job passes through
//!
//! ```text
//! waiting ──► sent ──► ended ──► (in the database: gone from spool and book)
//!    ▲          │
//!    └─ unsure ◄┘   may have been sent, or done, before: Redis and the database decide
//! ```

mod sent;
mod untold;

use crate::{
    outbox::Outbox,
    recent::{Ended, Recent},
    schedule::{Schedule, Turn},
    unfinished::Unfinished,
};
use imgsys_queue::Persisted;
use imgsys_store::Recovered;
use imgsys_types::{JobId, Owner, Run, Timestamp};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// A job that is in Redis.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) run: Box<Run>,
    /// Whether Redis has confirmed it: until then nobody may decide about it.
    pub(crate) confirmed: bool,
    pub(crate) since: Instant,
    /// Whether the event of its acceptance has been made.
    told: bool,
    /// When it is put on the queue once more.
    pub(crate) overdue_at: Instant,
    /// How long that was from the last time.
    patience: Duration,
}

/// How old an id may be to count as fresh.
const FRESH_MILLIS: u64 = 60_000;
/// How far a client's clock may be ahead for its ids to count as fresh.
const AHEAD_MILLIS: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    unfinished: Unfinished,
    waiting: Schedule,
    waiting_len: usize,
    sent: HashMap<JobId, Sent>,
    /// What jobs have taken of late from when they were sent.
    took: Duration,
    ended: HashMap<JobId, Ended>,
    /// Those to be asked about, some perhaps not any more: what counts is their mark in `unfinished`,
    /// or that they are in `unsure_others`.
    unsure: VecDeque<JobId>,
    unsure_others: HashSet<JobId>,
    unsure_len: usize,
    watchers: HashMap<JobId, Vec<Arc<Outbox>>>,
    /// Watched jobs that another server accepted.
    foreign: HashSet<JobId>,
    recent: Recent,
    /// Ids made before this time, in milliseconds since 1970, may have been seen before.
    horizon: u64,
}

impl Book {
    /// A book for a server that starts now.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            unfinished: Unfinished::default(),
            waiting: Schedule::default(),
            waiting_len: 0,
            sent: HashMap::new(),
            took: Duration::ZERO,
            ended: HashMap::new(),
            unsure: VecDeque::new(),
            unsure_others: HashSet::new(),
            unsure_len: 0,
            watchers: HashMap::new(),
            foreign: HashSet::new(),
            recent: Recent::default(),
            horizon: millis(now),
        }
    }

    /// Whether this id can't have been used before: it was made while this server was up, and not
    /// so long ago that the server may have forgotten it.
    ///
    /// A job with any other id is checked against Redis and the database before it is dispatched,
    /// for it may be one that was accepted and has ended already.
    pub(crate) fn is_fresh(&self, id: JobId, now: Timestamp) -> bool {
        let now = millis(now);
        self.recent.get(id).is_none()
            && id.unix_millis().is_some_and(|made| {
                made > self.horizon && made + FRESH_MILLIS > now && made <= now + AHEAD_MILLIS
            })
    }

    /// Takes a newly accepted run.
    pub(crate) fn add(&mut self, run: Box<Run>, now: Timestamp) {
        let id = run.job.id;
        // That a later run was not there before was found out before it was accepted.
        if run.number > 0 || self.is_fresh(id, now) {
            self.line_up(run);
        } else {
            self.note_unfinished(&run);
            self.doubt(id);
        }
    }

    /// Whether the newest run of this job is under way, or not known to be in the database.
    pub(crate) fn holds(&self, id: JobId) -> bool {
        self.ended.contains_key(&id)
            || self.sent.contains_key(&id)
            || self.is_unsure(id)
            || self
                .unfinished
                .get(id)
                .is_some_and(|open| open.ticket.is_some())
    }

    /// Makes room for jobs that are recovered.
    pub(crate) fn reserve(&mut self, jobs: usize) {
        self.unfinished.reserve(jobs);
        self.unsure.reserve_exact(jobs);
    }

    /// Takes a job that was in the spool when the server started.
    pub(crate) fn recover(&mut self, recovered: &Recovered<'_>) {
        match recovered {
            &Recovered::Submission {
                job,
                owner,
                accepted_at,
            } => {
                if self.unfinished.add((job, owner), accepted_at, true) {
                    self.unsure.push_back(job);
                    self.unsure_len += 1;
                }
            }
            Recovered::Other(spooled) => {
                let run = &spooled.run;
                if let Some(result) = spooled.end() {
                    let ended = Ended::of(run, result.finished_at);
                    self.ended.insert(run.job.id, ended);
                } else {
                    self.note_unfinished(run);
                    self.doubt(run.job.id);
                }
            }
        }
    }

    fn note_unfinished(&mut self, run: &Run) {
        let id = run.job.id;
        // Its result may have come before it was noted here.
        if !self.has_ended(id) {
            let unsure = self.unsure_others.remove(&id);
            let job = (id, &run.job.owner);
            self.unfinished.add(job, run.accepted_at, unsure);
        }
    }

    /// Puts a job in line, unless it is there already or has ended.
    fn line_up(&mut self, run: Box<Run>) {
        self.note_unfinished(&run);
        if let Some(open) = self.unfinished.get_mut(run.job.id)
            && open.ticket.is_none()
        {
            open.ticket = Some(self.waiting.push(run));
            self.waiting_len += 1;
        }
    }

    /// How many of an owner's jobs have no result.
    pub(crate) fn unfinished_of(&self, owner: &Owner) -> usize {
        self.unfinished.of(owner)
    }

    /// Puts a job in line that is neither in Redis nor in the database, unless its result was heard
    /// of meanwhile.
    pub(crate) fn send_again(&mut self, run: Box<Run>) {
        let id = run.job.id;
        self.settle(id);
        if !self.has_ended(id) {
            self.sent.remove(&id);
            self.line_up(run);
        }
    }

    /// Has Redis and the database asked about a job.
    pub(crate) fn doubt(&mut self, id: JobId) {
        let is_new = match self.unfinished.get_mut(id) {
            Some(open) => !mem::replace(&mut open.unsure, true),
            None => self.unsure_others.insert(id),
        };
        if is_new {
            self.unsure.push_back(id);
            self.unsure_len += 1;
        }
    }

    fn is_unsure(&self, id: JobId) -> bool {
        match self.unfinished.get(id) {
            Some(open) => open.unsure,
            None => self.unsure_others.contains(&id),
        }
    }

    /// Up to `limit` jobs to be asked about. They stay unsure until [`Book::settle`].
    pub(crate) fn take_unsure(&mut self, limit: usize) -> Vec<JobId> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(id) = self.unsure.pop_front()
        {
            if self.is_unsure(id) {
                taken.push(id);
            }
        }
        // What a server that starts with a million jobs needs for them is given back.
        if self.unsure.len() < self.unsure.capacity() / 4 {
            self.unsure.shrink_to(self.unsure.len() * 2 + limit);
        }
        taken
    }

    /// Puts jobs back that could not be asked about.
    pub(crate) fn put_back_unsure(&mut self, ids: &[JobId]) {
        for &id in ids.iter().rev() {
            if self.is_unsure(id) {
                self.unsure.push_front(id);
            }
        }
    }

    /// There is no doubt about this job any more.
    pub(crate) fn settle(&mut self, id: JobId) {
        let was_unsure = match self.unfinished.get_mut(id) {
            Some(open) => mem::take(&mut open.unsure),
            None => self.unsure_others.remove(&id),
        };
        self.unsure_len -= usize::from(was_unsure);
    }

    /// The next jobs to send, as many as the window has room for.
    pub(crate) fn next_turns(&mut self, window: usize, limit: usize) -> Vec<Turn> {
        let room = window.saturating_sub(self.sent.len()).min(limit);
        let mut turns = Vec::new();
        while turns.len() < room {
            let unfinished = &self.unfinished;
            let holds = |id, ticket| {
                let open = unfinished.get(id);
                open.is_some_and(|open| open.ticket == Some(ticket))
            };
            let Some(turn) = self.waiting.pop(holds) else {
                break;
            };
            self.withdraw(turn.id());
            turns.push(turn);
        }
        turns
    }

    /// The job as it was sent, if it is in Redis.
    pub(crate) fn sent(&self, id: JobId) -> Option<&Sent> {
        self.sent.get(&id)
    }

    /// Confirmed jobs that were sent at least `age` ago.
    pub(crate) fn sent_since(&self, age: Duration) -> Vec<JobId> {
        let old = |sent: &Sent| sent.confirmed && sent.since.elapsed() >= age;
        let sent = self.sent.iter();
        sent.filter(|(_, sent)| old(sent))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Whether it is time to put this job on the queue once more; the next time is twice as far.
    pub(crate) fn is_overdue(&mut self, id: JobId) -> bool {
        let now = Instant::now();
        let Some(sent) = self.sent.get_mut(&id) else {
            return false;
        };
        let overdue = sent.overdue_at <= now;
        if overdue {
            sent.patience *= 2;
            sent.overdue_at = now + sent.patience;
        }
        overdue
    }

    /// Notes that a job has a result, of that time, and gives those who wait for it.
    pub(crate) fn note_ended(&mut self, run: &Run, finished_at: Timestamp) -> Vec<Arc<Outbox>> {
        let id = run.job.id;
        self.settle(id);
        self.withdraw(id);
        if let Some(sent) = self.sent.remove(&id) {
            self.note_took(sent.since.elapsed());
        }
        self.unfinished.remove(run);
        self.ended
            .entry(id)
            .or_insert_with(|| Ended::of(run, finished_at));
        self.take_watchers(id)
    }

    pub(crate) fn has_ended(&self, id: JobId) -> bool {
        self.ended.contains_key(&id)
    }

    /// Whether this job has ended with this very result, or with an earlier run.
    pub(crate) fn has_ended_by(&self, persisted: &Persisted) -> bool {
        let ended = self.ended.get(&persisted.job);
        ended.is_some_and(|ended| ended.is_of(persisted))
    }

    /// Jobs that ended at least `age` ago and are not known to be in the database, at most `limit`.
    pub(crate) fn ended_since(&self, age: Duration, limit: usize) -> Vec<JobId> {
        let ended = self.ended.iter();
        let old = ended.filter(|(_, ended)| ended.since.elapsed() >= age);
        old.map(|(&id, _)| id).take(limit).collect()
    }

    /// Notes that an ended job is in the database and leaves the spool; gives how long ago it ended.
    pub(crate) fn note_gone(&mut self, id: JobId) -> Option<Duration> {
        let ended = self.ended.remove(&id)?;
        let age = ended.since.elapsed();
        if self.recent.insert(id, ended) {
            // Ids as old as what was forgotten are not fresh any more.
            self.horizon = millis(Timestamp::now());
        }
        Some(age)
    }

    /// Takes a job out of line, so that it is not sent; whether it was in line.
    pub(crate) fn withdraw(&mut self, id: JobId) -> bool {
        let open = self.unfinished.get_mut(id);
        let was_in_line = open.is_some_and(|open| open.ticket.take().is_some());
        self.waiting_len -= usize::from(was_in_line);
        was_in_line
    }

    /// Jobs waiting for a place in Redis, those about which it is asked included.
    pub(crate) fn waiting_len(&self) -> usize {
        self.waiting_len + self.unsure_len
    }

    /// Jobs that are in Redis, unfinished.
    pub(crate) fn sent_len(&self) -> usize {
        self.sent.len()
    }

    /// How many jobs there are to send. [`Book::waiting_len`] has those beside that are asked about first.
    pub(crate) fn turns(&self) -> usize {
        self.waiting_len
    }

    /// When the oldest job without a result was accepted, to the second.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.unfinished.oldest()
    }

    /// A job that left the spool a short while ago.
    pub(crate) fn recent(&self, id: JobId) -> Option<&Ended> {
        self.recent.get(id)
    }

    /// Has this connection told how a job ends.
    pub(crate) fn watch(&mut self, id: JobId, outbox: &Arc<Outbox>) {
        let watchers = self.watchers.entry(id).or_default();
        if !watchers.iter().any(|known| Arc::ptr_eq(known, outbox)) {
            watchers.push(Arc::clone(outbox));
        }
    }

    /// The job that is watched is another server's: the database is asked about it.
    pub(crate) fn note_foreign(&mut self, id: JobId) {
        self.foreign.insert(id);
    }

    /// Watched jobs of other servers.
    pub(crate) fn foreign(&self) -> Vec<JobId> {
        self.foreign.iter().copied().collect()
    }

    /// A connection does not wait for this job any more; whether it did.
    pub(crate) fn unwatch(&mut self, id: JobId, outbox: &Arc<Outbox>) -> bool {
        let Some(watchers) = self.watchers.get_mut(&id) else {
            return false;
        };
        let before = watchers.len();
        watchers.retain(|known| !Arc::ptr_eq(known, outbox));
        let waited = watchers.len() < before;
        if watchers.is_empty() {
            self.watchers.remove(&id);
            self.foreign.remove(&id);
        }
        waited
    }

    /// Those who wait for this job, who do not wait any more from here on.
    pub(crate) fn take_watchers(&mut self, id: JobId) -> Vec<Arc<Outbox>> {
        self.foreign.remove(&id);
        self.watchers.remove(&id).unwrap_or_default()
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros() / 1000).unwrap_or(0)
}
