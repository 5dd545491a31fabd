//! The tasks that have been revoked: as many, and as long, as Python's workers remember them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The most that are remembered; the oldest go first.
const MAX: usize = 50_000;
/// How long one is remembered.
const TTL: Duration = Duration::from_secs(3 * 3600);
/// The longest task id, in bytes: no task of ours has a longer one.
const MAX_ID: usize = 256;

/// Ids of tasks, the oldest first.
#[derive(Debug, Default)]
pub(in super::super) struct RevokedIds(Mutex<Set>);

#[derive(Debug, Default)]
struct Set {
    /// When each was revoked last.
    since: HashMap<Arc<str>, Instant>,
    /// In the order of that; what has been revoked again has more than one place.
    order: VecDeque<(Instant, Arc<str>)>,
}

impl RevokedIds {
    pub(in super::super) fn add(&self, ids: impl IntoIterator<Item = String>) {
        self.lock().add(ids, Instant::now());
    }

    pub(in super::super) fn contains(&self, id: &str) -> bool {
        self.lock().contains(id, Instant::now())
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<String> {
        self.lock().all(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    fn add(&mut self, ids: impl IntoIterator<Item = String>, now: Instant) {
        for id in ids.into_iter().filter(|id| id.len() <= MAX_ID) {
            let id: Arc<str> = id.into();
            self.since.insert(Arc::clone(&id), now);
            self.order.push_back((now, id));
            self.forget(now);
        }
    }

    fn contains(&self, id: &str, now: Instant) -> bool {
        let since = self.since.get(id);
        since.is_some_and(|since| now.duration_since(*since) < TTL)
    }

    fn all(&mut self, now: Instant) -> Vec<String> {
        self.forget(now);
        let current = |(since, id): &&(Instant, Arc<str>)| self.since.get(id) == Some(since);
        let current = self.order.iter().filter(current);
        current.map(|(_, id)| id.to_string()).collect()
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self, now: Instant) {
        while let Some((since, id)) = self.order.front() {
            let current = self.since.get(id) == Some(since);
            let keep = self.order.len() <= MAX && now.duration_since(*since) < TTL;
            if current && keep {
                break;
            }
            if current {
                self.since.remove(id);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_ids_are_bounded_and_expire() {
        let mut set = Set::default();
        let mut now = Instant::now();
        set.add((0..MAX + 10).map(|n| n.to_string()), now);
        assert_eq!(set.all(now).len(), MAX);
        assert!(!set.contains("9", now) && set.contains("10", now));
        now += TTL / 2;
        set.add(["10".to_owned(), "x".repeat(MAX_ID + 1)], now);
        assert!(set.contains("10", now));
        now += TTL / 2;
        assert!(!set.contains("11", now));
        assert_eq!(
            set.all(now),
            ["10"],
            "revoked again, so remembered for longer"
        );
        now += TTL / 2;
        assert!(set.all(now).is_empty());
        assert!(set.since.is_empty());
    }
}
