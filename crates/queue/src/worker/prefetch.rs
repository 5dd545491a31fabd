//! How many tasks a worker holds at once.
//!
//! Each call of Redis costs much the same for one task as for many, so a worker whose tasks take
//! moments holds more of them. One whose tasks take long holds few: what it holds, no other worker can
//! take, and what is urgent waits for it.

use super::Shared;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How long is counted what ends.
const COUNT: Duration = Duration::from_millis(50);
/// So many are held at most, whatever a remote control says.
const MOST: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Prefetch {
    /// Held whatever they take.
    least: AtomicUsize,
    /// Held besides, at present.
    more: AtomicUsize,
    /// Held at first whatever they take, and at most: in this proportion they stay.
    first: (usize, usize),
    /// More than the least number are held only as far as all of them are done within this time.
    within: Duration,
    /// When it was counted last, and how many tasks had ended then.
    counted: Mutex<(Instant, u64)>,
}

impl Prefetch {
    pub(super) fn new(least: usize, most: usize, within: Duration) -> Self {
        let least = least.clamp(1, MOST);
        Self {
            least: AtomicUsize::new(least),
            more: AtomicUsize::new(0),
            first: (least, most.clamp(least, MOST)),
            within,
            counted: Mutex::new((Instant::now(), 0)),
        }
    }

    /// How many are held whatever they take.
    pub(super) fn least(&self) -> usize {
        self.least.load(Ordering::Relaxed)
    }

    /// How many are held at once, as things stand.
    pub(super) fn now(&self) -> usize {
        self.least() + self.more.load(Ordering::Relaxed)
    }

    /// How many may be held besides.
    fn most_more(&self) -> usize {
        let (least, most) = self.first;
        self.least().saturating_mul(most - least) / least
    }

    /// How many are to be held besides, by how many have ended since it was counted last; `None` if that is
    /// not long ago.
    fn count(&self, ended: u64) -> Option<usize> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = *counted;
        let now = Instant::now();
        let took = now - at;
        if took < COUNT {
            return None;
        }
        *counted = (now, ended);
        Some(self.more(ended - before, took))
    }

    /// How many are to be held besides, if so many have ended in this time.
    fn more(&self, ended: u64, took: Duration) -> usize {
        let soon = u128::from(ended) * self.within.as_micros() / took.as_micros().max(1);
        let soon = usize::try_from(soon).unwrap_or(usize::MAX);
        soon.saturating_sub(self.least()).min(self.most_more())
    }
}

impl Shared {
    /// Holds more or fewer tasks from now on, as quickly as they have been done of late.
    pub(super) fn adapt_prefetch(self: &Arc<Self>) {
        let prefetch = &self.prefetch;
        if prefetch.most_more() == 0 {
            return;
        }
        let Some(more) = prefetch.count(self.finished.load(Ordering::Relaxed)) else {
            return;
        };
        let before = prefetch.more.load(Ordering::Relaxed);
        // Not for each small difference.
        if more == before || more.abs_diff(before) * 4 < more.max(before) {
            return;
        }
        prefetch.more.store(more, Ordering::Relaxed);
        self.permit(more.abs_diff(before), more > before);
        self.analyzer.prefetches(prefetch.now());
    }

    /// Changes the number of tasks that are held whatever they take.
    pub(super) fn change_prefetch(self: &Arc<Self>, by: usize, more: bool) {
        let now = self.prefetch.least();
        let by = if more {
            by.min(MOST.saturating_sub(now))
        } else {
            by.min(now - 1)
        };
        let then = if more { now + by } else { now - by };
        self.prefetch.least.store(then, Ordering::Relaxed);
        self.permit(by, more);
        self.analyzer.prefetches(self.prefetch.now());
    }

    /// Lets so many more tasks be held and run, or so many fewer.
    fn permit(self: &Arc<Self>, by: usize, more: bool) {
        if more {
            self.permits.add_permits(by);
            self.slots.add_permits(by);
            return;
        }
        // Those that are in use are taken away as their tasks end, all of them before others are taken.
        let forget = async |semaphore: &Semaphore, by| {
            if let Ok(by) = u32::try_from(by)
                && let Ok(permits) = semaphore.acquire_many(by).await
            {
                permits.forget();
            }
        };
        let permits = by - self.permits.forget_permits(by);
        let slots = by - self.slots.forget_permits(by);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let both = async {
                tokio::join!(
                    forget(&shared.permits, permits),
                    forget(&shared.slots, slots)
                )
            };
            shared.stop.run_until_cancelled(both).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(5);

    #[test]
    fn only_what_is_done_in_moments_is_held_besides() {
        let second = Duration::from_secs(1);
        let prefetch = Prefetch::new(16, 64, WITHIN);
        // Slow tasks, none, and as many as are held anyway.
        for ended in [0, 20, 3200] {
            assert_eq!(prefetch.more(ended, second), 0, "{ended}");
        }
        // 5 ms of 6 400 a second are 32.
        assert_eq!(prefetch.more(6_400, second), 16);
        assert_eq!(prefetch.more(640, second / 10), 16);
        assert_eq!(prefetch.more(1_000_000, second), 48);
        assert_eq!(prefetch.more(u64::MAX, Duration::ZERO), 48);
        // Who was told one number holds no more.
        assert_eq!(Prefetch::new(16, 0, WITHIN).more(1_000_000, second), 0);
    }

    #[test]
    fn it_is_counted_now_and_then() {
        let prefetch = Prefetch::new(2, 6, WITHIN);
        // As after remote control.
        prefetch.least.store(4, Ordering::Relaxed);
        assert_eq!(prefetch.count(1000), None);
        std::thread::sleep(COUNT);
        assert_eq!(prefetch.count(100_000), Some(8));
        assert_eq!(prefetch.count(200_000), None);
        std::thread::sleep(COUNT);
        // None has ended since.
        assert_eq!(prefetch.count(100_000), Some(0));
    }
}
