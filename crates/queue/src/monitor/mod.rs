//! What programs written for Celery see of a worker, and how they talk to it.
//!
//! | module | holds |
//! |---|---|
//! | `events` | what happens to the worker and its tasks, told on Celery's channels |
//! | `sent` | that a server has sent a task |
//! | `voice` | what all of these events have |
//! | `mailbox` | remote control: commands come in, replies go out |
//! | `envelope` | the form of both on the wire |
//! | `host` | what a worker says of the machine that it runs on |
//! | `python` | values as Python writes them, for people who read them there |
//!
//! All of it is lossy, as it is in Celery: nothing that matters depends on it, and a worker whose
//! Redis is away forgets what it could not tell.

pub(crate) mod envelope;
pub(crate) mod events;
pub(crate) mod host;
pub(crate) mod mailbox;
pub(crate) mod python;
pub(crate) mod sent;
pub(crate) mod voice;

use std::sync::atomic::{AtomicU64, Ordering};

/// Lamport's clock, by which Celery's programs order what they hear from several workers.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// Python counts on for ever; what no program can have counted to is not believed.
    const MAX: u64 = 1 << 53;

    /// The time of something that happens here.
    pub(crate) fn forward(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Something came that happened elsewhere at that time.
    pub(crate) fn adjust(&self, other: u64) {
        if other <= Self::MAX {
            self.0.fetch_max(other, Ordering::Relaxed);
        }
        self.forward();
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_ahead_of_all_that_it_has_seen() {
        let clock = Clock::default();
        assert_eq!(clock.forward(), 1);
        clock.adjust(41);
        assert_eq!(clock.forward(), 43);
        clock.adjust(7);
        assert_eq!(clock.value(), 44);
        clock.adjust(u64::MAX);
        assert_eq!(clock.value(), 45);
    }
}
