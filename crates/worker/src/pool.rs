//! The threads on which images are analysed.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Threads beside Tokio's. Jobs begin in the order in which they come.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: ThreadPool,
    patience: Patience,
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
    pub(crate) fn new(threads: usize, patience: Patience) -> Result<Self, ThreadPoolBuildError> {
        let builder = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("analysis-{index}"));
        let threads = builder.build()?;
        Ok(Self { threads, patience })
    }

    /// How long is waited for each part of a task.
    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }

    /// Runs a job on one of the threads. A job that nobody waits for any more when its turn comes
    /// is not begun; one that has begun runs to its end, and its result is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (sender, mut receiver) = oneshot::channel();
        // A mark rather than a message: it is looked at only when patience ends.
        let began = Arc::new(OnceLock::new());
        let mark = Arc::clone(&began);
        self.threads.spawn_fifo(move || {
            if sender.is_closed() || mark.set(Instant::now()).is_err() {
                return;
            }
            // Nothing that the job shares is written to.
            let result = catch_unwind(AssertUnwindSafe(job));
            // Whoever waited may be gone by now: its time limit has struck.
            let _ = sender.send(result.map_err(|cause| PoolError::Panicked(message(&*cause))));
        });
        let Patience { begin, run, .. } = self.patience;
        let no_later = Instant::now() + begin;
        let mut look = no_later.min(Instant::now() + run);
        loop {
            if let Ok(result) = timeout_at(look, &mut receiver).await {
                return result.unwrap_or(Err(PoolError::Closed));
            }
            let now = Instant::now();
            look = match began.get() {
                Some(&began) if began + run <= now => return Err(PoolError::TookTooLong(run)),
                Some(&began) => began + run,
                None if no_later <= now => return Err(PoolError::NeverBegun(begin)),
                None => no_later.min(now + run),
            };
        }
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
    use std::{future::poll_fn, pin::pin, sync::mpsc, task::Poll};

    const HOUR: Duration = Duration::from_secs(3600);

    fn pool(begin: Duration, run: Duration) -> Pool {
        let fetch = HOUR;
        Pool::new(1, Patience { fetch, begin, run }).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_told_and_the_thread_lives_on() {
        let pool = pool(HOUR, HOUR);
        let died = pool.run(|| panic!("at byte {}", 7)).await;
        let cause = PoolError::Panicked("at byte 7".into());
        assert_eq!(died, Err::<(), _>(cause));
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_not_begun() {
        let pool = pool(HOUR, HOUR);
        let (release, released) = mpsc::channel::<()>();
        let (mark, begun) = mpsc::channel();
        let mut busy = pin!(pool.run(move || released.recv()));
        {
            let mut forgotten = pin!(pool.run(move || mark.send(())));
            // Once polled they are in the pool.
            poll_fn(|context| {
                assert!(busy.as_mut().poll(context).is_pending());
                assert!(forgotten.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        release.send(()).unwrap();
        assert_eq!(busy.await, Ok(Ok(())));
        // There is one thread: what was forgotten has had its turn before this.
        pool.run(|| ()).await.unwrap();
        assert!(begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_time_limit_counts_from_the_beginning_and_a_late_end_is_dropped() {
        let (begin, run) = (Duration::from_millis(150), Duration::from_millis(50));
        let pool = pool(begin, run);
        let (release, released) = mpsc::channel::<()>();
        let stuck = pool.run(move || released.recv());
        let waiting = pool.run(|| ());
        let (stuck, waiting) = tokio::join!(stuck, waiting);
        assert_eq!(stuck, Err(PoolError::TookTooLong(run)));
        assert_eq!(waiting, Err(PoolError::NeverBegun(begin)));
        release.send(()).unwrap();
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }
}
