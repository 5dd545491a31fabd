//! Results on their way to the clients: written into the spool first, told after that, so that what
//! a client was told is what the history will say.

use crate::shared::{Shared, chain, is_same};
use futures::future::join_all;
use imgsys_proto::message::JobEnd;
use imgsys_queue::{Persisted, ServerEvent};
use imgsys_types::{JobRecord, JobResult, Run};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// News taken in at once: their results share the spool's flush.
const BATCH: usize = 256;

/// Takes in what workers and persisters tell this server, until `shutdown`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut events: Receiver<ServerEvent>,
    shutdown: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let got = tokio::select! {
            got = events.recv_many(&mut batch, BATCH) => got,
            () = shutdown.cancelled() => return,
        };
        if got == 0 {
            return;
        }
        let mut results = Vec::new();
        let mut persisted = Vec::new();
        for event in batch.drain(..) {
            match event {
                ServerEvent::Result(record) => results.push(*record),
                ServerEvent::Persisted(runs) => persisted.extend(runs),
                ServerEvent::Subscribed => {
                    info!("subscribed to results");
                    // What was published meanwhile went past: ask about all that is under way.
                    let mut book = shared.book();
                    for id in book.sent_since(Duration::ZERO) {
                        book.doubt(id);
                    }
                    drop(book);
                    shared.reconcile.notify_one();
                }
                ServerEvent::Lost(why) => warn!("results come late: {why}"),
            }
        }
        // Results first: a persister may tell of a job in the same breath.
        join_all(results.into_iter().map(|record| shared.deliver(record))).await;
        shared.note_persisted(&persisted);
    }
}

impl Shared {
    /// Takes a worker's word for how a job ended. It counts only if id, owner and digest match, and
    /// only if it is the first.
    pub(crate) async fn deliver(&self, record: JobRecord) {
        let id = record.job.id;
        let Some(result) = record.result else {
            warn!(job = %id, "a result without a result: passed over");
            return;
        };
        let known = self.book().sent(id).map(|sent| *sent.run.clone());
        let run = match known {
            Some(run) => run,
            None => match self.store.get(id) {
                Ok(Some(spooled)) => spooled.run,
                // In the database already, or never this server's.
                Ok(None) => return,
                Err(problem) => {
                    error!(job = %id, "{}", chain(&problem));
                    return;
                }
            },
        };
        if !is_same(&run.job, &record.job) || result.run < run.number {
            warn!(job = %id, "a result for another owner, image or run: passed over");
            return;
        }
        self.conclude(&run, result).await;
    }

    /// Writes the end of a job's run into the spool and tells those who wait for it. Gives the
    /// result that stands, which may be an earlier one, if the job is in the spool.
    pub(crate) async fn conclude(&self, run: &Run, result: JobResult) -> Option<JobResult> {
        match self.store.set_result(run.job.id, result).await {
            Ok(Some(standing)) => {
                self.tell(run, standing.clone());
                Some(standing)
            }
            Ok(None) => None,
            // The server is about to restart and will find the result in Redis or the database.
            Err(problem) => {
                error!(job = %run.job.id, "writing a result: {}", chain(&problem));
                None
            }
        }
    }

    fn tell(&self, run: &Run, result: JobResult) {
        self.metrics.note_told(run, &result);
        let watchers = self.book().note_ended(run, result.finished_at);
        self.dispatch.notify_one();
        let end = JobEnd {
            job: run.job.id,
            sha256: run.job.sha256,
            result,
        };
        for outbox in watchers {
            outbox.end(&end);
        }
    }

    /// Tells the end of a job that the database has, and lets go of it. It goes through the spool
    /// like any other: whoever begins to watch in between finds it there, or finds the job gone.
    ///
    /// If another result of this run was told before, that one is given back instead: it is what
    /// the database has to have.
    pub(crate) async fn conclude_from_database(
        &self,
        run: &Run,
        result: JobResult,
    ) -> Option<JobRecord> {
        let persisted = Persisted::of(run.job.id, &result);
        let stands = self.conclude(run, result).await;
        if self.let_go(&persisted) {
            return None;
        }
        stands.map(|result| JobRecord {
            job: run.job.clone(),
            result: Some(result),
        })
    }

    /// Lets go of a job that has ended with what is in the database; whether it has.
    pub(crate) fn let_go(&self, persisted: &Persisted) -> bool {
        let mut book = self.book();
        let lets_go = book.has_ended_by(persisted);
        if lets_go {
            book.note_gone(persisted.job);
            drop(book);
            self.store.remove(vec![persisted.job]);
        }
        lets_go
    }

    /// Lets go of jobs whose newest run is in the database.
    fn note_persisted(&self, runs: &[Persisted]) {
        if runs.is_empty() {
            return;
        }
        let mut gone = Vec::with_capacity(runs.len());
        let mut book = self.book();
        for persisted in runs {
            let job = persisted.job;
            if book.has_ended_by(persisted) {
                if let Some(after) = book.note_gone(job) {
                    self.metrics.note_persisted(after);
                }
                gone.push(job);
            } else if book.has_ended(job)
                || book
                    .sent(job)
                    .is_some_and(|sent| sent.run.number <= persisted.run)
            {
                // In the database before its result was heard of here, or not the result that was
                // told: the database tells it.
                book.doubt(job);
                self.reconcile.notify_one();
            }
        }
        drop(book);
        self.store.remove(gone);
    }
}
