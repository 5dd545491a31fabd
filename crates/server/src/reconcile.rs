//! What Redis and the database know of this server's jobs.
//!
//! Pub/Sub only makes things fast: whatever it missed is found here. `open` in Redis is read first,
//! then the database, so that a job can't slip from the one to the other unseen:
//!
//! | `open` | database | then |
//! |---|---|---|
//! | ended | | its result is told |
//! | queued | | it is left alone (put on the queue again once it is overdue) |
//! | absent | ended | the result is told, the job leaves the spool; if another was told before, that one is announced |
//! | absent | not ended | it is sent again: as its result if that was told already, else as a task |
//! | absent | unreachable | nothing is decided |

use crate::shared::{Shared, chain, is_same};
use imgsys_history::read::ReadError;
use imgsys_queue::{OpenState, Persisted, QueueError};
use imgsys_store::{Spooled, StoreError};
use imgsys_types::{Failure, FailureReason, JobId, JobRecord, JobResult, Run};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Jobs asked about at once.
const BATCH: usize = 1000;
/// Ended jobs looked at in one sweep, at most.
const MAX_ENDED: usize = 10_000;
/// The pause after Redis or the database could not be asked.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the database is asked about watched jobs of other servers.
const FOREIGN: Duration = Duration::from_secs(1);

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    #[error("Redis")]
    Redis(#[from] QueueError),
    #[error("the database")]
    Database(#[from] ReadError),
    #[error("the spool")]
    Store(#[from] StoreError),
}

/// Asks about jobs in doubt, and sweeps through all that are late, until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sweep_forever(&shared) => {}
    }
}

async fn sweep_forever(shared: &Shared) {
    let interval = shared.config.server.sweep_interval;
    let mut next_sweep = Instant::now() + interval;
    let mut next_foreign = Instant::now() + FOREIGN;
    let mut waits_for: Option<String> = None;
    loop {
        let mut outcome = shared.ask_about_unsure().await;
        if outcome.is_ok() && Instant::now() >= next_sweep {
            outcome = shared.sweep(interval).await;
            next_sweep = Instant::now() + interval;
        }
        if outcome.is_ok() && Instant::now() >= next_foreign {
            outcome = shared.ask_about_foreign().await;
            next_foreign = Instant::now() + FOREIGN;
        }
        match outcome {
            Ok(()) => {
                if waits_for.take().is_some() {
                    info!("jobs in doubt are decided again");
                }
                tokio::select! {
                    () = shared.reconcile.notified() => {}
                    () = tokio::time::sleep_until(next_sweep.min(next_foreign)) => {}
                }
            }
            Err(undecided) => {
                let why = chain(&undecided);
                if waits_for.as_ref() != Some(&why) {
                    warn!("jobs in doubt wait for {why}");
                    waits_for = Some(why);
                }
                sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    async fn ask_about_unsure(&self) -> Result<(), Undecided> {
        // Jobs that stay in doubt are asked about again at the next call, not for ever in this one.
        let mut rounds = self.book().waiting_len() / BATCH + 1;
        loop {
            let ids = self.book().take_unsure(BATCH);
            if ids.is_empty() || rounds == 0 {
                self.book().put_back_unsure(&ids);
                return Ok(());
            }
            rounds -= 1;
            let outcome = self.ask(&ids).await;
            // Those that are settled are passed over.
            self.book().put_back_unsure(&ids);
            outcome?;
        }
    }

    async fn sweep(&self, age: Duration) -> Result<(), Undecided> {
        let mut late = self.book().sent_since(age);
        late.extend(self.book().ended_since(age, MAX_ENDED));
        for ids in late.chunks(BATCH) {
            self.ask(ids).await?;
        }
        Ok(())
    }

    /// Asks Redis, then the database, about these jobs, and does what follows.
    pub(crate) async fn ask(&self, ids: &[JobId]) -> Result<(), Undecided> {
        let mut spooled = Vec::with_capacity(ids.len());
        for &id in ids {
            match self.store.get(id) {
                Ok(Some(found)) => spooled.push(found),
                Ok(None) => self.book().settle(id),
                // One record must not keep the others from being decided.
                Err(problem @ StoreError::Corrupt { .. }) => {
                    error!(job = %id, "{}", chain(&problem));
                    self.book().settle(id);
                }
                Err(problem) => return Err(problem.into()),
            }
        }
        if spooled.is_empty() {
            return Ok(());
        }
        let runs = spooled
            .iter()
            .map(|Spooled { run, .. }| (run.job.id, run.number));
        let runs: Vec<_> = runs.collect();
        let states = self.producer.open_states(self.server, &runs).await?;
        let mut absent = Vec::new();
        let mut overdue = Vec::new();
        for (spooled, state) in spooled.into_iter().zip(states) {
            match state {
                OpenState::Ended(event) => self.deliver(*event).await,
                OpenState::Queued => self.leave(spooled, &mut overdue).await?,
                OpenState::Absent => absent.push(spooled),
            }
        }
        if !overdue.is_empty() {
            info!("{} overdue tasks are put on the queue again", overdue.len());
            self.producer.requeue(&overdue).await?;
            self.metrics.requeued.inc_by(overdue.len() as u64);
        }
        self.ask_database(absent).await
    }

    /// Redis has the job, unfinished.
    async fn leave(
        &self,
        spooled: Spooled,
        overdue: &mut Vec<imgsys_queue::Task>,
    ) -> Result<(), Undecided> {
        let id = spooled.run.job.id;
        if spooled.has_ended() {
            // Redis came back with an older state, in which the job had not ended yet.
            self.producer.cancel(&spooled.into_record()).await?;
            self.book().settle(id);
            return Ok(());
        }
        let mut book = self.book();
        if book.is_overdue(id) {
            overdue.push(self.task(&spooled.run));
        }
        let patience = self.config.server.overdue;
        book.note_found(Box::new(spooled.run), patience);
        self.untold.notify_one();
        Ok(())
    }

    async fn ask_database(&self, absent: Vec<Spooled>) -> Result<(), Undecided> {
        if absent.is_empty() {
            return Ok(());
        }
        let ids = absent.iter().map(|spooled| spooled.run.job.id);
        let ids: Vec<JobId> = ids.collect();
        let rows = self.reader.get_with_deleted(&ids).await?;
        let mut rows: HashMap<JobId, JobRecord> =
            rows.into_iter().map(|row| (row.job.id, row)).collect();
        let mut told = Vec::new();
        for spooled in absent {
            let run = &spooled.run;
            let id = run.job.id;
            match rows.remove(&id) {
                Some(row) if !is_same(&row.job, &run.job) => self.conflict(run).await,
                Some(JobRecord {
                    result: Some(result),
                    ..
                }) if result.run >= run.number => {
                    told.extend(self.conclude_from_database(run, result).await);
                }
                Some(row) if row.job.server != self.server && !self.is_stale(&row) => {
                    debug!(job = %id, server = %row.job.server, "another server has this job");
                    self.book().doubt(id);
                }
                _ if spooled.has_ended() => told.push(spooled.into_record()),
                _ => self.book().send_again(Box::new(spooled.run)),
            }
        }
        self.dispatch.notify_one();
        if !told.is_empty() {
            debug!("{} results are announced again", told.len());
            self.producer.announce(&told).await?;
            let mut book = self.book();
            for record in &told {
                book.settle(record.job.id);
            }
        }
        Ok(())
    }

    /// Whether a job has been another server's for so long that this one does it itself.
    fn is_stale(&self, row: &JobRecord) -> bool {
        imgsys_types::Timestamp::now().since(row.job.submitted_at) > self.config.server.overdue
    }

    /// The job's id turned out to be taken: it ends here, and leaves no row, for the row is another's.
    async fn conflict(&self, run: &Run) {
        let id = run.job.id;
        warn!(job = %id, owner = %run.job.owner, "the job's id belongs to another job");
        let detail = "the job's id belongs to another image or owner: submit it under a new id";
        let failure = Failure::new(FailureReason::Conflict, detail);
        let result = JobResult::failed(run.number, failure);
        if let Some(stands) = self.conclude(run, result).await {
            self.let_go(&Persisted::of(run.job.id, &stands));
        }
    }

    async fn ask_about_foreign(&self) -> Result<(), Undecided> {
        let ids = self.book().foreign();
        for ids in ids.chunks(BATCH) {
            for row in self.reader.get_with_deleted(ids).await? {
                self.tell_foreign(row);
            }
        }
        Ok(())
    }

    /// Tells the end of another server's job to those who watch it here.
    pub(crate) fn tell_foreign(&self, row: JobRecord) {
        let Some(result) = row.result else { return };
        let end = imgsys_proto::message::JobEnd {
            job: row.job.id,
            sha256: row.job.sha256,
            result,
        };
        let watchers = self.book().take_watchers(row.job.id);
        for outbox in watchers {
            outbox.end(&end);
        }
    }
}
