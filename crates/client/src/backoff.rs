//! How long to wait before trying again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Pauses that double up to a limit, each shortened at random by up to a half, so that many
/// clients of a server that was away do not all come back at the same moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// For connections: 50 ms at first, at most 5 s.
    pub(crate) fn connection() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }

    /// For requests that a server refused for now: 100 ms at first, at most 15 s.
    pub(crate) fn request() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(15))
    }

    fn new(first: Duration, most: Duration) -> Self {
        Self {
            next: first,
            first,
            most,
        }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.most);
        full.mul_f64(0.5 + random() / 2.0)
    }

    /// Begins again with a short pause, once things went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A number from 0 to 1. The standard library seeds each `RandomState` differently, which is all
/// the randomness that spreading pauses needs.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::connection();
        for full in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let pause = backoff.pause();
            let full = Duration::from_millis(full);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(50));
    }
}
