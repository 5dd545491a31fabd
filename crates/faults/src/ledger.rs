//! What the clients know: the other side of the promise.

use crate::images::Sample;
use imgsys_types::{Digest, FailureReason, JobId, JobResult, Outcome};
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How a job has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Analysed.
    Done,
    /// Set aside, for its image kills workers.
    Condemned,
}

/// A job, as its client sees it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose it is.
    pub owner: String,
    /// The image's digest.
    pub sha256: Digest,
    /// The image's width and height in pixels.
    pub side: u32,
    /// How it has to end.
    pub end: End,
    /// When it was accepted.
    pub accepted: Option<Instant>,
    /// The answer, and when it came.
    pub answer: Option<(JobResult, Instant)>,
}

/// All jobs of all clients.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<HashMap<JobId, Entry>>,
    wrong: Mutex<Vec<String>>,
    answered: AtomicU64,
    accepted: AtomicU64,
    cuts: AtomicU64,
}

impl Ledger {
    /// A job is about to be sent.
    pub fn sends(&self, sample: &Sample, owner: &str, end: End) {
        self.entries().entry(sample.job).or_insert_with(|| Entry {
            owner: owner.to_owned(),
            sha256: sample.sha256,
            side: sample.side,
            end,
            accepted: None,
            answer: None,
        });
    }

    /// It was accepted.
    pub fn accepted(&self, job: JobId) {
        let mut entries = self.entries();
        match entries.get_mut(&job) {
            Some(entry) if entry.accepted.is_none() => {
                entry.accepted = Some(Instant::now());
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {}
            None => self.complain(format!("{job} was accepted, which nobody sent")),
        }
    }

    /// A client was told how it ended. The same again is no news; another end is wrong.
    pub fn told(&self, job: JobId, result: JobResult) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&job) else {
            self.complain(format!("an answer for {job}, which nobody sent"));
            return;
        };
        match &entry.answer {
            Some((before, _)) if *before == result => {}
            Some((before, _)) => {
                self.complain(format!(
                    "two answers for {job}: {before:?}, then {result:?}"
                ));
            }
            None => {
                if let Some(problem) = entry.misfit(&result) {
                    self.complain(format!("{job}: {problem}"));
                }
                entry.answer = Some((result, Instant::now()));
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Something that a client must never see.
    pub fn complain(&self, what: String) {
        let wrong = &self.wrong;
        wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    /// A connection was lost. Clients live with it.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were lost.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Jobs that were sent.
    #[must_use]
    pub fn sent_count(&self) -> u64 {
        self.entries().len() as u64
    }

    /// Jobs that were accepted.
    #[must_use]
    pub fn accepted_count(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Jobs that were answered.
    #[must_use]
    pub fn answered_count(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// What was wrong so far, as the clients saw it.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All jobs as they stand.
    #[must_use]
    pub fn jobs(&self) -> HashMap<JobId, Entry> {
        self.entries().clone()
    }

    /// The first answer after this moment.
    #[must_use]
    pub fn first_answer_after(&self, moment: Instant) -> Option<Instant> {
        self.answers(|_| true).filter(|told| *told >= moment).min()
    }

    /// When the last of the tasks was answered that a second worker had to take up.
    #[must_use]
    pub fn last_takeover(&self) -> Option<Instant> {
        self.answers(|result| result.attempts > 1).max()
    }

    fn answers(&self, of: impl Fn(&JobResult) -> bool) -> impl Iterator<Item = Instant> {
        let entries = self.entries();
        let answers = entries.values().filter_map(|entry| entry.answer.as_ref());
        let found = answers.filter(|(result, _)| of(result));
        found.map(|(_, told)| *told).collect::<Vec<_>>().into_iter()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What is wrong about this answer, whatever the database says: simulated labels follow from
    /// the digest, and the size of the image is known.
    #[must_use]
    pub fn misfit(&self, result: &JobResult) -> Option<String> {
        match (&result.outcome, self.end) {
            (Outcome::Done(analysis), End::Done) => {
                let properties = &analysis.properties;
                let seen = (
                    properties.format.as_str(),
                    properties.width,
                    properties.height,
                );
                if seen != ("bmp", self.side, self.side) {
                    return Some(format!("is said to be {seen:?}"));
                }
                let (label, confidence) = imgsys_analysis::Simulated::draw(&self.sha256);
                let differs = (analysis.confidence - confidence).abs() > 1e-9;
                (analysis.label != label || differs).then(|| {
                    format!(
                        "is said to be {} at {} %, and is {label} at {confidence} %",
                        analysis.label, analysis.confidence
                    )
                })
            }
            (Outcome::Failed(failure), End::Condemned)
                if failure.reason == FailureReason::DeadLetter =>
            {
                None
            }
            (outcome, _) => Some(format!("ended as {outcome:?}")),
        }
    }
}
