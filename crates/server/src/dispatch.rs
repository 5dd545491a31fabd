//! From the spool to Redis.

use crate::{
    schedule::Turn,
    shared::{Shared, chain},
};
use imgsys_queue::Task;
use imgsys_types::{JobId, Run};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Jobs sent to Redis in one transaction.
const BATCH: usize = 256;
/// While so many jobs are under way, those that wait gather for a while between batches, for a batch
/// costs Redis and all who hear of it much the same with one job as with ten.
const PLENTY: usize = 16;
/// So many that wait are enough.
const ENOUGH: usize = 16;
/// They gather for this part of what jobs have taken of late once they were sent, so that none waits for
/// others longer than for a part of what it takes anyway.
const GATHER_PART: u32 = 4;
/// At most so long, and at most so long once there are enough of them.
const GATHER: (Duration, Duration) = (Duration::from_millis(16), Duration::from_millis(4));
/// What is shorter is not worth a pause.
const GATHER_MIN: Duration = Duration::from_millis(1);
/// What has not ended this long after it was sent is told of: the history shows it from then on.
const TELL_AFTER: Duration = Duration::from_millis(500);
/// The share of Redis' memory limit beyond which nothing more is sent.
const MEMORY_LOAD: f64 = 0.7;
/// How often Redis is asked how full it is, while there is something to send.
const MEMORY_CHECK: Duration = Duration::from_millis(500);
/// The first and the longest pause between attempts: jobs flow again within a second of Redis'
/// return.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// Sends what waits, until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = Dispatcher::new(shared).run() => {}
    }
}

/// Tells of jobs that were sent without the event of their acceptance and have not ended soon after, until
/// `shutdown`.
pub(crate) async fn tell(shared: Arc<Shared>, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(tell_forever(&shared)).await;
}

async fn tell_forever(shared: &Shared) {
    loop {
        shared.untold.notified().await;
        loop {
            tokio::time::sleep(TELL_AFTER).await;
            let (due, mut more) = shared.book().untold(TELL_AFTER);
            if let Err(problem) = shared.producer.tell_accepted(&due).await {
                // Redis' outages are told of by the dispatcher, and louder.
                debug!("{} jobs are told of later: {}", due.len(), chain(&problem));
                shared.book().not_told(&due);
                more = true;
            }
            if !more {
                break;
            }
        }
    }
}

struct Dispatcher {
    shared: Arc<Shared>,
    memory_checked: Option<Instant>,
    /// When the last batch was sent.
    sent_at: Option<Instant>,
    is_full: bool,
    /// The pause after the last attempt, if it failed.
    pause: Option<Duration>,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            memory_checked: None,
            sent_at: None,
            is_full: false,
            pause: None,
        }
    }

    async fn run(mut self) {
        loop {
            while self.shared.book().turns() > 0 {
                if self.is_memory_short().await {
                    tokio::time::sleep(MEMORY_CHECK).await;
                    continue;
                }
                self.gather().await;
                if !self.send_batch().await {
                    break;
                }
            }
            self.shared.dispatch.notified().await;
        }
    }

    async fn gather(&self) {
        let Some(sent_at) = self.sent_at else {
            return;
        };
        loop {
            let gather = {
                let book = self.shared.book();
                gather_for(book.sent_len(), book.turns(), book.took())
            };
            let rest = gather.saturating_sub(sent_at.elapsed());
            if rest.is_zero() {
                return;
            }
            // There may be enough before all of it is over.
            tokio::time::sleep(rest.min(GATHER.1)).await;
        }
    }

    /// Sends one batch; false if there was no room for any job.
    async fn send_batch(&mut self) -> bool {
        let shared = &self.shared;
        let window = shared.config.server.dispatch_window;
        let turns = shared.book().next_turns(window, BATCH);
        if turns.is_empty() {
            return false;
        }
        self.sent_at = Some(Instant::now());
        // What ends soon is told of by its end.
        let told = shared.book().sent_len() < PLENTY;
        let runs = self.runs(turns);
        let tasks: Vec<Task> = runs.iter().map(|run| shared.task(run)).collect();
        let ids: Vec<JobId> = runs.iter().map(|run| run.job.id).collect();
        {
            // Before Redis has them: a worker may be done before Redis' answer is here.
            let mut book = shared.book();
            for run in runs {
                book.note_sending(Box::new(run), told, shared.config.server.overdue);
            }
        }
        let sent = if told {
            shared.producer.dispatch(&tasks).await
        } else {
            shared.producer.dispatch_untold(&tasks).await
        };
        match sent {
            Ok(()) => {
                if !told {
                    shared.untold.notify_one();
                }
                if self.pause.take().is_some() {
                    info!("Redis takes jobs again");
                }
                shared.book().confirm(&ids);
                shared.metrics.dispatched.inc_by(ids.len() as u64);
            }
            Err(problem) => {
                if self.pause.is_none() {
                    warn!("{} jobs wait in the spool: {}", ids.len(), chain(&problem));
                }
                // It may have been done all the same: Redis and the database are asked first.
                shared.book().doubt_sent(&ids);
                self.wait_for_redis().await;
                self.shared.reconcile.notify_one();
            }
        }
        true
    }

    fn runs(&self, turns: Vec<Turn>) -> Vec<Run> {
        let mut runs = Vec::with_capacity(turns.len());
        for turn in turns {
            match turn {
                Turn::Ready(run) => runs.push(*run),
                Turn::Stored(id) => match self.shared.store.get(id) {
                    Ok(Some(spooled)) => runs.push(spooled.run),
                    Ok(None) => {}
                    Err(problem) => error!(job = %id, "{}", chain(&problem)),
                },
            }
        }
        runs
    }

    /// Pauses at least once: a Redis that is there may still take nothing, for it is a replica or
    /// has no memory left.
    async fn wait_for_redis(&mut self) {
        loop {
            let next = |pause: Duration| (pause * 2).min(PAUSES.1);
            let pause = self.pause.map_or(PAUSES.0, next);
            self.pause = Some(pause);
            tokio::time::sleep(pause).await;
            if self.shared.producer.ping().await.is_ok() {
                return;
            }
        }
    }

    async fn is_memory_short(&mut self) -> bool {
        let due = self
            .memory_checked
            .is_none_or(|at| at.elapsed() >= MEMORY_CHECK);
        if due {
            self.memory_checked = Some(Instant::now());
            // If Redis is away, sending says so.
            if let Ok(depth) = self.shared.producer.depth(self.shared.server).await {
                let full = depth.memory_load() >= MEMORY_LOAD;
                if full && !self.is_full {
                    warn!(
                        used = depth.used_memory,
                        limit = depth.max_memory,
                        "Redis' memory runs short: jobs wait in the spool"
                    );
                }
                self.is_full = full;
            }
        }
        self.is_full
    }
}

/// How long after a batch the next is sent, while so many jobs are under way and so many wait.
fn gather_for(under_way: usize, waiting: usize, took: Duration) -> Duration {
    let most = if waiting < ENOUGH { GATHER.0 } else { GATHER.1 };
    let gather = (took / GATHER_PART).min(most);
    if under_way < PLENTY || gather < GATHER_MIN {
        return Duration::ZERO;
    }
    gather
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_gather_for_a_part_of_what_they_take() {
        let millis = Duration::from_millis;
        // Few under way, or over at once: what comes is sent.
        assert_eq!(gather_for(15, 1, millis(100)), Duration::ZERO);
        assert_eq!(gather_for(1000, 1, millis(3)), Duration::ZERO);
        assert_eq!(gather_for(16, 1, millis(8)), millis(2));
        assert_eq!(gather_for(16, 15, millis(40)), millis(10));
        // No longer for what takes long, and once there are enough.
        assert_eq!(gather_for(16, 15, millis(90_000)), millis(16));
        assert_eq!(gather_for(16, 16, millis(90_000)), millis(4));
        assert_eq!(gather_for(16, 16, millis(8)), millis(2));
    }
}
