//! The threads on which images are analysed.
//!
//! Jobs wait in one line. As many threads as may work at once take them from it, one after the other,
//! and sleep while there are none: a thread that goes from one job to the next costs no waking, and
//! one that has nothing to do costs nothing. (Rayon's own queues would have idle threads look for
//! work again and again before they sleep, which is as dear as analysing a small image.)
//!
//! A thread that hangs in a decoder can't be stopped. It is written off: its turn goes to one of the
//! spare threads, which the pool has from the start, and what it brings in the end is dropped. Then
//! it is a spare thread itself. When more hang than there are spare ones, the pool is worn out:
//! its process should end.
//!
//! The pool can grow and shrink. Then its threads are replaced by another set of them; those of the
//! old one end as soon as they have done what they were given.

mod line;

use line::{Asked, Line};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Threads beside Tokio's. Jobs begin in the order in which they come.
#[derive(Debug)]
pub(crate) struct Pool {
    line: Arc<Line>,
    /// As many threads as may be stuck more than work.
    threads: Mutex<ThreadPool>,
    max_stuck: usize,
    patience: Patience,
    _watch: AbortOnDropHandle<()>,
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
    /// So many threads, and as many in reserve as may be stuck at once. Needs a Tokio runtime.
    pub(crate) fn new(
        threads: usize,
        max_stuck: usize,
        patience: Patience,
    ) -> Result<Self, ThreadPoolBuildError> {
        let line = Arc::new(Line::new(threads, max_stuck, patience.run));
        let watching = tokio::spawn(Arc::clone(&line).watch());
        Ok(Self {
            threads: Mutex::new(start(&line, threads, max_stuck)?),
            line,
            max_stuck,
            patience,
            _watch: AbortOnDropHandle::new(watching),
        })
    }

    /// How many jobs run at once.
    pub(crate) fn threads(&self) -> usize {
        self.line.limit()
    }

    /// From now on so many run at once, at least one. If these are fewer, then those that run go on.
    pub(crate) fn resize(&self, threads: usize) -> Result<(), ThreadPoolBuildError> {
        let threads = threads.max(1);
        let mut present = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        *present = start(&self.line, threads, self.max_stuck)?;
        Ok(())
    }

    /// How long is waited for each part of a task.
    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }

    /// Cancelled when more threads are stuck than there are in reserve.
    pub(crate) fn worn_out(&self) -> CancellationToken {
        self.line.worn_out()
    }

    /// Runs a job on one of the threads. A job that nobody waits for any more when its turn comes
    /// is not begun; one that has begun runs to its end, or is written off, and its result is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, mut result) = oneshot::channel();
        let asked = Arc::new(Asked::new(reply));
        self.line.push(Arc::clone(&asked), job);
        let begin = self.patience.begin;
        if let Ok(result) = timeout(begin, &mut result).await {
            return result.unwrap_or(Err(PoolError::Closed));
        }
        if asked.take_back() {
            return Err(PoolError::NeverBegun(begin));
        }
        // It has begun, so it is watched.
        result.await.unwrap_or(Err(PoolError::Closed))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.line.close();
    }
}

/// So many threads, and as many in reserve as may be stuck at once, in the place of any others.
fn start(
    line: &Arc<Line>,
    threads: usize,
    max_stuck: usize,
) -> Result<ThreadPool, ThreadPoolBuildError> {
    let all = threads.saturating_add(max_stuck);
    let builder = ThreadPoolBuilder::new()
        .num_threads(all)
        .thread_name(|index| format!("analysis-{index}"));
    let pool = builder.build()?;
    let set = line.replace(threads);
    pool.spawn_broadcast({
        let line = Arc::clone(line);
        move |_| line.work(set)
    });
    Ok(pool)
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
            while pool.line.stuck() > 0 {
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
