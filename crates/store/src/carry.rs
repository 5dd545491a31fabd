//! Carrying jobs that stay long from the log's beginning to its end, so that the segments that they
//! are in can go.

use crate::{batch::Batch, store::Shared};

/// What part of a segment's length a commit may carry at least, and how much of the log may be of
/// no use at least before anything is carried.
const STEPS: u64 = 1024;
const SLACK: u64 = 4;
/// How many jobs a commit looks at, at least.
const LOOK: u64 = 1024;

/// A walk over all jobs for those in one segment.
#[derive(Debug, Clone, Copy)]
struct Walk {
    segment: u32,
    next: usize,
}

/// What is carried over.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// How long a segment is.
    segment: u64,
    walk: Option<Walk>,
    /// A segment with a record that can't be read: it stays, until the next start tells of it.
    stuck: Option<u32>,
}

impl Carrier {
    pub(crate) const fn new(segment: u64) -> Self {
        Self {
            segment,
            walk: None,
            stuck: None,
        }
    }

    /// Adds to a batch what is to be carried with it: in proportion to what is in the batch, so that
    /// the log does not grow faster than it is cleaned, and no commit takes long for it.
    pub(crate) fn go_on(&mut self, batch: &mut Batch<'_>) {
        let Some(mut walk) = self
            .walk
            .or_else(|| self.begin(batch.shared, batch.segment()))
        else {
            return;
        };
        let size = batch.size();
        let most = (self.segment / STEPS).max(2 * size);
        let slots = batch.shared.spool().jobs.slots() as u64;
        // All jobs are looked at by the time that half a segment is written.
        let look = LOOK.max(slots.saturating_mul(size) / (self.segment / 2).max(1) + 1);
        let mut looked = 0;
        while looked < look && batch.size() - size < most {
            // A few at a time, so that not many more are carried than may be.
            let part = 64.min(look - looked);
            looked += part;
            let part = usize::try_from(part).unwrap_or(1);
            let spool = batch.shared.spool();
            let (jobs, next) = spool.jobs.in_segment(walk.segment, walk.next, part);
            drop(spool);
            for job in jobs {
                if let Err(error) = batch.carry(job, walk.segment) {
                    tracing::error!(%job, %error, "could not carry a job over");
                    self.stuck = Some(walk.segment);
                }
            }
            let Some(next) = next else {
                self.walk = None;
                return;
            };
            walk.next = next;
        }
        self.walk = Some(walk);
    }

    /// The oldest segment that is used, if the log is much longer than what is used of it.
    fn begin(&self, shared: &Shared, last: u32) -> Option<Walk> {
        let spool = shared.spool();
        let used_in = |segment: &u32| spool.jobs.used_in(*segment);
        let segments = spool.segments.keys().copied();
        let mut needed = segments.skip_while(|segment| used_in(segment) == 0);
        let segment = needed.next().filter(|segment| *segment != last)?;
        // The last one is as long as it will be.
        let length = (1 + needed.count() as u64).saturating_mul(self.segment);
        let limit = 2 * spool.jobs.used() + SLACK * self.segment;
        let worth = length > limit && self.stuck != Some(segment);
        worth.then_some(Walk { segment, next: 0 })
    }
}
