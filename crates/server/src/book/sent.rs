//! How jobs come to be in Redis, and what is known of that.

use super::{Book, Sent};
use imgsys_types::{JobId, Run};
use std::time::{Duration, Instant};

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
