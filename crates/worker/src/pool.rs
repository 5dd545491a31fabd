//! The threads on which images are analysed.
//!
//! A thread that hangs in a decoder can't be stopped. It is written off: its turn goes to one of the
//! spare threads, which the pool has from the start, and what it brings in the end is dropped. Then
//! it is a spare thread itself. When more hang than there are spare ones, the pool is worn out:
//! its process should end.
//!
//! The pool can grow and shrink. Then its threads are replaced by another set of them; those of the
//! old one end as soon as they have done what they were given.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Threads beside Tokio's. Jobs begin in the order in which they come.
#[derive(Debug)]
pub(crate) struct Pool {
    /// As many threads as may be stuck more than work.
    threads: Mutex<Arc<ThreadPool>>,
    /// How many work at once.
    count: AtomicUsize,
    /// So many jobs at once.
    turns: Arc<Semaphore>,
    patience: Patience,
    stuck: Arc<Stuck>,
}

/// The threads that are written off.
#[derive(Debug)]
struct Stuck {
    count: AtomicUsize,
    limit: usize,
    worn_out: CancellationToken,
}

/// How long is waited for each part of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until its image has come over HTTP.
    pub(crate) fetch: Duration,
    /// Until a thread is free for it.
    pub(crate) begin: Duration,
    /// From its beginning to its end.
    pub(crate) run: Duration,
}

impl Patience {
    /// How long a task may take from when it was handed over.
    pub(crate) fn in_all(self) -> Duration {
        self.fetch + self.begin + self.run
    }
}

/// Why a job has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    /// Decoders may panic on hostile bytes.
    #[error("the analyzer broke down over this image: {0}")]
    Panicked(String),
    /// It runs, perhaps for ever.
    #[error("not analysed within {0:?}")]
    TookTooLong(Duration),
    /// All threads are held by other jobs.
    #[error("no thread was free within {0:?}")]
    NeverBegun(Duration),
    /// The pool was shut down under the job.
    #[error("the worker is going down")]
    Closed,
}

impl Pool {
    /// So many threads, and as many in reserve as may be stuck at once.
    pub(crate) fn new(
        threads: usize,
        max_stuck: usize,
        patience: Patience,
    ) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self {
            threads: Mutex::new(start(threads, max_stuck)?),
            count: AtomicUsize::new(threads),
            turns: Arc::new(Semaphore::new(threads)),
            patience,
            stuck: Arc::new(Stuck {
                count: AtomicUsize::new(0),
                limit: max_stuck,
                worn_out: CancellationToken::new(),
            }),
        })
    }

    /// How many jobs run at once.
    pub(crate) fn threads(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// From now on so many run at once, at least one. If these are fewer, then those that run go on.
    /// Needs a Tokio runtime.
    pub(crate) fn resize(&self, threads: usize) -> Result<(), ThreadPoolBuildError> {
        let threads = threads.max(1);
        let fresh = start(threads, self.stuck.limit)?;
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        let before = self.count.swap(threads, Ordering::Relaxed);
        if threads > before {
            self.turns.add_permits(threads - before);
        } else {
            let turns = Arc::clone(&self.turns);
            tokio::spawn(async move {
                for _ in threads..before {
                    if let Ok(turn) = turns.acquire().await {
                        turn.forget();
                    }
                }
            });
        }
        Ok(())
    }

    /// How long is waited for each part of a task.
    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }

    /// Cancelled when more threads are stuck than there are in reserve.
    pub(crate) fn worn_out(&self) -> CancellationToken {
        self.stuck.worn_out.clone()
    }

    /// Runs a job on one of the threads. A job that nobody waits for any more when its turn comes
    /// is not begun; one that has begun runs to its end, or is written off, and its result is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let Patience { begin, run, .. } = self.patience;
        let turn = timeout(begin, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| PoolError::NeverBegun(begin))?;
        let turn = Turn::new(turn.map_err(|_| PoolError::Closed)?);
        let (sender, receiver) = oneshot::channel();
        let (of_thread, stuck) = (turn.clone(), Arc::clone(&self.stuck));
        let threads = Arc::clone(&self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.spawn_fifo(move || {
            // Nothing that the job shares is written to.
            let result = catch_unwind(AssertUnwindSafe(job));
            if of_thread.take().is_none() {
                stuck.has_come_back();
            }
            // Whoever waited may be gone by now: its time limit has struck.
            let _ = sender.send(result.map_err(|cause| PoolError::Panicked(message(&*cause))));
        });
        // Also if whoever waits for it goes: a thread that hangs is noticed even then.
        let stuck = Arc::clone(&self.stuck);
        let watching = tokio::spawn(async move {
            if let Ok(result) = timeout(run, receiver).await {
                return result.unwrap_or(Err(PoolError::Closed));
            }
            if let Some(turn) = turn.take() {
                stuck.write_off(turn);
            }
            Err(PoolError::TookTooLong(run))
        });
        watching.await.unwrap_or(Err(PoolError::Closed))
    }
}

/// So many threads, and as many in reserve as may be stuck at once.
fn start(threads: usize, max_stuck: usize) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads.saturating_add(max_stuck))
        .thread_name(|index| format!("analysis-{index}"));
    builder.build().map(Arc::new)
}
/// The right to keep a thread busy. The thread gives it back when it is done, unless it was taken
/// from it before.
#[derive(Clone)]
struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Stuck {
    /// Gives the turn of a thread that hangs to a spare one, if there is one left.
    fn write_off(&self, turn: OwnedSemaphorePermit) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.limit;
        if count <= limit {
            warn!("a thread hangs in an analysis and is replaced: {count} of {limit} that may");
            drop(turn);
        } else {
            warn!("{count} threads hang in analyses: this worker ends, to be started anew");
            turn.forget();
            self.worn_out.cancel();
        }
    }

    fn has_come_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        info!("a thread that was written off has come to an end, too late");
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
    use std::{future::poll_fn, pin::pin, sync::mpsc, task::Poll, thread};

    const HOUR: Duration = Duration::from_secs(3600);
    const MOMENT: Duration = Duration::from_millis(50);

    fn pool(max_stuck: usize, begin: Duration, run: Duration) -> Pool {
        let fetch = HOUR;
        Pool::new(1, max_stuck, Patience { fetch, begin, run }).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_told_and_the_thread_lives_on() {
        let pool = pool(0, HOUR, HOUR);
        let died = pool.run(|| panic!("at byte {}", 7)).await;
        let cause = PoolError::Panicked("at byte 7".into());
        assert_eq!(died, Err::<(), _>(cause));
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_not_begun() {
        let pool = pool(2, HOUR, HOUR);
        let (release, released) = mpsc::channel::<()>();
        let (mark, begun) = mpsc::channel();
        let mut busy = pin!(pool.run(move || released.recv()));
        {
            let mut forgotten = pin!(pool.run(move || mark.send(())));
            // Once polled they are in line.
            poll_fn(|context| {
                assert!(busy.as_mut().poll(context).is_pending());
                assert!(forgotten.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        release.send(()).unwrap();
        assert_eq!(busy.await, Ok(Ok(())));
        // One at a time: what was forgotten has had its turn before this.
        pool.run(|| ()).await.unwrap();
        assert!(begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn as_many_run_at_once_as_there_are_threads() {
        let pool = pool(3, MOMENT, HOUR);
        let (release, released) = mpsc::channel::<()>();
        let busy = pool.run(move || released.recv());
        let waiting = async {
            let waited = pool.run(|| ()).await;
            release.send(()).unwrap();
            waited
        };
        let (busy, waiting) = tokio::join!(busy, waiting);
        assert_eq!(busy, Ok(Ok(())));
        assert_eq!(waiting, Err(PoolError::NeverBegun(MOMENT)));
        assert!(!pool.worn_out().is_cancelled());
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_replaced_even_if_nobody_waits_for_it() {
        let pool = pool(1, HOUR, MOMENT);
        let (release, released) = mpsc::channel::<()>();
        let (mark, begun) = mpsc::channel();
        let hanging = pool.run(move || (mark.send(()), released.recv()).1);
        let abandoned = timeout(MOMENT / 5, hanging).await;
        assert!(abandoned.is_err());
        assert_eq!(begun.recv(), Ok(()));
        assert_eq!(pool.run(|| 5).await, Ok(5));
        drop(release);
    }

    /// Whether so many jobs, and no more, run at once.
    async fn runs_at_once(pool: &Pool, expected: usize) -> bool {
        let (mark, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let jobs = (0..8).map(|_| {
            let (mark, released) = (mark.clone(), Arc::clone(&released));
            pool.run(move || {
                // Whoever counts may have seen enough.
                let _ = mark.send(());
                let waiting = || released.lock().map(|released| released.try_recv());
                while matches!(waiting(), Ok(Err(mpsc::TryRecvError::Empty))) {
                    thread::yield_now();
                }
            })
        });
        let jobs = futures::future::join_all(jobs);
        let counting = tokio::task::spawn_blocking(move || {
            let enough = (0..expected).all(|_| begun.recv_timeout(HOUR).is_ok());
            let more = begun.recv_timeout(MOMENT).is_ok();
            drop(release);
            enough && !more
        });
        tokio::join!(jobs, counting).1.unwrap()
    }

    #[tokio::test]
    async fn a_pool_grows_and_shrinks() {
        let pool = pool(0, HOUR, HOUR);
        assert!(runs_at_once(&pool, 1).await);
        for threads in [3, 5, 2] {
            pool.resize(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            assert!(runs_at_once(&pool, threads).await, "{threads}");
        }
    }

    #[tokio::test]
    async fn a_job_that_runs_while_its_pool_is_replaced_ends() {
        let pool = pool(0, HOUR, HOUR);
        let (release, released) = mpsc::channel::<()>();
        let running = pool.run(move || released.recv());
        let resizing = async {
            tokio::task::yield_now().await;
            pool.resize(2).unwrap();
            release.send(()).unwrap();
        };
        assert_eq!(tokio::join!(running, resizing).0, Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_stuck_thread_is_replaced_and_its_late_end_ignored() {
        let pool = pool(1, HOUR, MOMENT);
        for _ in 0..5 {
            let (release, released) = mpsc::channel::<()>();
            let stuck = pool.run(move || released.recv()).await;
            assert_eq!(stuck, Err(PoolError::TookTooLong(MOMENT)));
            assert_eq!(pool.run(|| 5).await, Ok(5));
            release.send(()).unwrap();
            // It counts until it has come back.
            while pool.stuck.count.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(!pool.worn_out().is_cancelled());
    }

    #[tokio::test]
    async fn more_stuck_threads_than_allowed_wear_the_pool_out() {
        let pool = pool(2, HOUR, MOMENT);
        let mut releases = Vec::new();
        for count in 1..=3 {
            assert!(!pool.worn_out().is_cancelled());
            let (release, held) = mpsc::channel::<()>();
            releases.push(release);
            let stuck = pool.run(move || held.recv()).await;
            assert_eq!(stuck, Err(PoolError::TookTooLong(MOMENT)), "{count}");
        }
        assert!(pool.worn_out().is_cancelled());
    }
}
