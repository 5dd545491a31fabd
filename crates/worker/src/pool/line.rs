//! The line in which jobs wait for the threads of a pool, and those who wait for the jobs.

use super::PoolError;
use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, oneshot},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// See the module.
pub(super) struct Line {
    state: Mutex<State>,
    /// There is a job, or there is room for one, or a set of threads was replaced.
    news: Condvar,
    /// Something runs, and is not watched yet.
    unwatched: Notify,
    worn_out: CancellationToken,
    max_stuck: usize,
    /// How long a job may run.
    time: Duration,
}

struct State {
    jobs: VecDeque<Box<dyn Job>>,
    /// How many may run at once.
    limit: usize,
    /// The jobs that run and are not written off.
    running: HashMap<u64, Running>,
    /// How many threads are written off and have not come back.
    stuck: usize,
    /// Of those, how many went without a spare one: their turns are lost.
    lost: usize,
    begun: u64,
    /// The present set of threads; 0 once there is to be none.
    set: u64,
    /// How many of its threads sleep, or have been woken and have not taken anything up yet.
    idle: usize,
    /// How many of those have been woken: no more than may run, for the others would wake in vain.
    woken: usize,
    watched: bool,
}

struct Running {
    since: Instant,
    asked: Arc<dyn Late>,
}

/// A job with whoever waits for it.
trait Job: Send {
    /// To be told if it takes too long; `None` if nobody waits for it any more.
    fn begin(&self) -> Option<Arc<dyn Late>>;
    fn run(&mut self);
    fn tell(&mut self);
}

/// Somebody who waits for a job that takes too long.
trait Late: Send + Sync {
    fn tell(&self, problem: PoolError);
}

/// Somebody who waits for a job.
#[derive(Debug)]
pub(super) struct Asked<T> {
    reply: Mutex<Option<oneshot::Sender<Result<T, PoolError>>>>,
    /// The job has begun, or is not to begin any more.
    settled: AtomicBool,
}

impl<T> Asked<T> {
    pub(super) const fn new(reply: oneshot::Sender<Result<T, PoolError>>) -> Self {
        Self {
            reply: Mutex::new(Some(reply)),
            settled: AtomicBool::new(false),
        }
    }

    /// Sees to it that the job does not begin; `false` if it has.
    pub(super) fn take_back(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }

    fn reply(&self) -> MutexGuard<'_, Option<oneshot::Sender<Result<T, PoolError>>>> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, result: Result<T, PoolError>) {
        if let Some(reply) = self.reply().take() {
            // Whoever waited may be gone by now: its time limit has struck.
            let _ = reply.send(result);
        }
    }
}

impl<T: Send> Late for Asked<T> {
    fn tell(&self, problem: PoolError) {
        self.answer(Err(problem));
    }
}

struct Pending<T, F> {
    job: Option<F>,
    result: Option<Result<T, PoolError>>,
    asked: Arc<Asked<T>>,
}

impl<T: Send + 'static, F: FnOnce() -> T + Send> Job for Pending<T, F> {
    fn begin(&self) -> Option<Arc<dyn Late>> {
        let awaited = self.asked.reply().as_ref().is_some_and(|r| !r.is_closed());
        // The other order would have one that nobody waits for count as begun.
        (awaited && self.asked.take_back()).then(|| Arc::clone(&self.asked) as Arc<dyn Late>)
    }

    fn run(&mut self) {
        // Nothing that the job shares is written to.
        let result = self
            .job
            .take()
            .map(|job| catch_unwind(AssertUnwindSafe(job)));
        self.result =
            result.map(|result| result.map_err(|cause| PoolError::Panicked(message(&*cause))));
    }

    fn tell(&mut self) {
        if let Some(result) = self.result.take() {
            self.asked.answer(result);
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Line")
            .field("jobs", &state.jobs.len())
            .field("running", &state.running.len())
            .finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new(limit: usize, max_stuck: usize, time: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                limit,
                running: HashMap::new(),
                stuck: 0,
                lost: 0,
                begun: 0,
                set: 0,
                idle: 0,
                woken: 0,
                watched: false,
            }),
            news: Condvar::new(),
            unwatched: Notify::new(),
            worn_out: CancellationToken::new(),
            max_stuck,
            time,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No job runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> usize {
        self.state().limit
    }

    #[cfg(test)]
    pub(super) fn stuck(&self) -> usize {
        self.state().stuck
    }

    pub(super) fn worn_out(&self) -> CancellationToken {
        self.worn_out.clone()
    }

    /// Another set of threads takes over, of which so many may run at once. Gives its number.
    pub(super) fn replace(&self, limit: usize) -> u64 {
        let mut state = self.state();
        state.limit = limit;
        state.set += 1;
        (state.idle, state.woken) = (0, 0);
        self.news.notify_all();
        state.set
    }

    /// Ends all threads that do nothing. What waits is not begun any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.set = 0;
        state.jobs.clear();
        self.news.notify_all();
    }

    /// Puts a job at the end of the line.
    pub(super) fn push<T: Send + 'static>(
        &self,
        asked: Arc<Asked<T>>,
        job: impl FnOnce() -> T + Send + 'static,
    ) {
        let pending = Pending {
            job: Some(job),
            result: None,
            asked,
        };
        let mut state = self.state();
        state.jobs.push_back(Box::new(pending));
        let wakes = state.wakes();
        drop(state);
        if wakes {
            self.news.notify_one();
        }
    }

    /// Does jobs until another set of threads takes over.
    pub(super) fn work(&self, set: u64) {
        let mut state = self.state();
        while let Some((number, mut job)) = self.next(state, set) {
            job.run();
            state = self.state();
            if state.running.remove(&number).is_none() {
                state.stuck -= 1;
                info!("a thread that was written off has come to an end, too late");
                if state.lost > 0 {
                    state.lost -= 1;
                }
            }
            // After the turn is free again, for whoever hears of it may count on that.
            drop(state);
            job.tell();
            state = self.state();
        }
    }

    /// The next job to be run, in time.
    fn next<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        set: u64,
    ) -> Option<(u64, Box<dyn Job>)> {
        loop {
            if state.set != set {
                // This thread's turn may have been what a job waits for.
                self.news.notify_one();
                return None;
            }
            if state.has_room()
                && let Some(job) = state.jobs.pop_front()
            {
                let Some(asked) = job.begin() else {
                    continue;
                };
                state.begun += 1;
                let number = state.begun;
                let since = Instant::now();
                state.running.insert(number, Running { since, asked });
                if !state.watched {
                    state.watched = true;
                    self.unwatched.notify_one();
                }
                return Some((number, job));
            }
            state.idle += 1;
            state = self
                .news
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            // Those of a set that was replaced are not counted any more.
            if state.set == set {
                state.idle -= 1;
                // It may have woken by itself.
                state.woken = state.woken.saturating_sub(1);
            }
        }
    }

    /// Writes off what runs for too long.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            let next = self.write_off();
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => self.unwatched.notified().await,
            }
        }
    }

    /// The same once; gives when to look again, if anything runs.
    fn write_off(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut state = self.state();
        let time = self.time;
        state.running.retain(|_, running| {
            let over = now.saturating_duration_since(running.since) >= time;
            if over {
                late.push(Arc::clone(&running.asked));
            }
            !over
        });
        for _ in &late {
            state.stuck += 1;
            let (stuck, limit) = (state.stuck, self.max_stuck);
            if stuck <= limit {
                warn!("a thread hangs in an analysis and is replaced: {stuck} of {limit} that may");
            } else {
                warn!("{stuck} threads hang in analyses: this worker ends, to be started anew");
                state.lost += 1;
                self.worn_out.cancel();
            }
            self.news.notify_one();
        }
        let next = state
            .running
            .values()
            .map(|running| running.since)
            .min()
            .and_then(|oldest| oldest.checked_add(time));
        state.watched = next.is_some();
        drop(state);
        for asked in late {
            asked.tell(PoolError::TookTooLong(time));
        }
        next
    }
}

impl State {
    /// Whether one more may run.
    fn has_room(&self) -> bool {
        self.running.len() + self.lost < self.limit
    }

    /// Whether one more is to be woken for a job that has come; counts it.
    fn wakes(&mut self) -> bool {
        let wakes =
            self.idle > self.woken && self.running.len() + self.lost + self.woken < self.limit;
        self.woken += usize::from(wakes);
        wakes
    }
}

fn message(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().copied();
    text.or_else(|| cause.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("for no stated reason")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_woken_than_may_run() {
        let line = Line::new(2, 4, Duration::from_secs(1));
        let mut state = line.state();
        state.idle = 6;
        let woken = [(); 4].map(|()| state.wakes());
        assert_eq!(woken, [true, true, false, false]);
        // One of them is up, and found nothing.
        state.woken -= 1;
        assert!(state.wakes());
        // All are up already.
        (state.idle, state.woken) = (1, 1);
        assert!(!state.wakes());
    }
}
