//! How jobs come to be in Redis, and what is known of that.

use super::{Book, Sent};
use imgsys_types::{JobId, Run};
use std::time::{Duration, Instant};

/// Of so many jobs the time that they have taken is the mean, the newest count for more.
const TOOK_OF: u32 = 16;

impl Book {
    /// Notes that a job is about to be in Redis, and whether the event of its acceptance goes with it.
    pub(crate) fn note_sending(&mut self, run: Box<Run>, told: bool, patience: Duration) {
        self.note_sent(run, false, told, patience);
    }

    /// Notes that a job was found in Redis. Whether it was told of, nobody knows any more.
    pub(crate) fn note_found(&mut self, run: Box<Run>, patience: Duration) {
        self.note_sent(run, true, false, patience);
    }

    fn note_sent(&mut self, run: Box<Run>, confirmed: bool, told: bool, patience: Duration) {
        self.settle(run.job.id);
        let since = Instant::now();
        self.sent.entry(run.job.id).or_insert(Sent {
            run,
            confirmed,
            since,
            told,
            overdue_at: since + patience,
            patience,
        });
    }

    /// Notes what a job has taken from when it was sent.
    pub(crate) fn note_took(&mut self, took: Duration) {
        self.took = (self.took * (TOOK_OF - 1) + took) / TOOK_OF;
    }

    /// What jobs have taken of late from when they were sent.
    pub(crate) const fn took(&self) -> Duration {
        self.took
    }

    /// Redis has confirmed these jobs.
    pub(crate) fn confirm(&mut self, ids: &[JobId]) {
        for id in ids {
            if let Some(sent) = self.sent.get_mut(id) {
                sent.confirmed = true;
            }
        }
    }

    /// Redis may or may not have these jobs.
    pub(crate) fn doubt_sent(&mut self, ids: &[JobId]) {
        for &id in ids {
            if self.sent.remove(&id).is_some() {
                self.doubt(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::Timestamp;

    #[test]
    fn what_jobs_take_is_learnt_and_forgotten() {
        let mut book = Book::new(Timestamp::now());
        assert_eq!(book.took(), Duration::ZERO);
        for (millis, low, high) in [(80, 70, 80), (8, 8, 10)] {
            for _ in 0..64 {
                book.note_took(Duration::from_millis(millis));
            }
            let took = book.took().as_millis();
            assert!((low..=high).contains(&took), "{took}");
        }
    }
}
