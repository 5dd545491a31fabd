//! Jobs that are analysed once more.
//!
//! The next run of a job begins when the one before it is in the database and has left the spool:
//! a job has one run at a time, everywhere. It goes into the spool as a submission does, and from
//! there the same way. The client names the run, so that to ask again changes nothing.

use crate::{
    history::PAGE_BYTES,
    session::Session,
    shared::{Shared, chain, refuse, refuse_job},
    submit::{self, Refusal},
    watch::LookUpError,
};
use futures::future::join_all;
use imgsys_history::read::ReadError;
use imgsys_proto::{
    ServerMessage, encode,
    message::{Reanalyze, Reanalyzing, RefusedRun, RunOf, Runs, RunsRequest},
};
use imgsys_store::Accepted;
use imgsys_types::{ErrorCode, JobId, JobRecord, JobResult, Priority, Run, Timestamp};
use std::collections::HashMap;
use tracing::{debug, error};

/// The most results in an answer; mostly fewer fit.
const MAX_RESULTS: u32 = 100;

/// What the spool knows about a run that is asked for.
enum Known {
    /// It is under way, or has been.
    Has,
    Refused(Refusal),
    /// The job is not in the spool: the database knows.
    InDatabase,
}

impl Session {
    /// Answers `reanalyze`.
    pub(crate) async fn reanalyze(&self, request: Reanalyze) {
        let req = request.req;
        let most = Reanalyze::MAX;
        let refusal = if self.shutdown.is_cancelled() {
            Some((ErrorCode::ShuttingDown, "connect again".to_owned()))
        } else if request.runs.len() > most {
            let text = format!("at most {most} runs can be asked for at once");
            Some((ErrorCode::BadRequest, text))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            let rejected = refuse(req, code, text);
            self.outbox.send(&ServerMessage::Rejected(rejected));
            return;
        }
        let runs = &request.runs;
        match self.shared.rerun(self, runs, request.priority).await {
            Ok(outcomes) => {
                let mut answer = Reanalyzing {
                    req,
                    accepted: Vec::new(),
                    refused: Vec::new(),
                };
                for (run, outcome) in runs.iter().zip(outcomes) {
                    let job = run.job;
                    match outcome {
                        Ok(()) => answer.accepted.push(job),
                        Err(Refusal { code, text, .. }) => {
                            answer.refused.push(RefusedRun { job, code, text });
                        }
                    }
                }
                self.outbox.send(&ServerMessage::Reanalyzing(answer));
            }
            Err(problem) => self.unavailable(req, &LookUpError::from(problem)),
        }
    }

    /// Answers `runs`.
    pub(crate) async fn runs(&self, request: RunsRequest) {
        let RunsRequest { req, job, before } = request;
        match self.results(job, before).await {
            Ok(Some(results)) => {
                let (results, more) = fit(results);
                self.outbox.send(&ServerMessage::Runs(Runs {
                    req,
                    job,
                    results,
                    more,
                }));
            }
            Ok(None) => {
                let rejected = refuse_job(req, job, ErrorCode::UnknownJob, "no such job");
                self.outbox.send(&ServerMessage::Rejected(rejected));
            }
            Err(problem) => self.unavailable(req, &problem),
        }
    }

    /// The results of the runs of a job that this connection reaches, newest first; one more than an answer may have.
    async fn results(
        &self,
        job: JobId,
        before: Option<u32>,
    ) -> Result<Option<Vec<JobResult>>, LookUpError> {
        // The spool first, as ever: a result that moves meanwhile is in both.
        let spooled = self.shared.store.get(job)?;
        let mut owner = spooled
            .as_ref()
            .map(|spooled| spooled.run.job.owner.clone());
        let rows = self
            .shared
            .reader
            .runs(job, before, MAX_RESULTS + 1)
            .await?;
        if owner.is_none() {
            owner = match rows.first() {
                Some(row) => Some(row.job.owner.clone()),
                None => (self.shared.record(job).await?).map(|record| record.job.owner),
            };
        }
        if !owner.is_some_and(|owner| self.reaches(&owner)) {
            return Ok(None);
        }
        let mut results: Vec<JobResult> = rows.into_iter().filter_map(|row| row.result).collect();
        if let Some(newest) = spooled.and_then(|spooled| spooled.result)
            && before.is_none_or(|before| newest.run < before)
            && results.first().is_none_or(|first| first.run < newest.run)
        {
            results.insert(0, newest);
        }
        Ok(Some(results))
    }
}

impl Shared {
    /// Accepts runs of jobs that the session reaches; says of each, in the same order, what became of it.
    async fn rerun(
        &self,
        session: &Session,
        runs: &[RunOf],
        priority: Priority,
    ) -> Result<Vec<Result<(), Refusal>>, ReadError> {
        let _alone = self.reanalyses.lock().await;
        // The spool first: what leaves it after this is in the database.
        let known: Vec<Known> = runs.iter().map(|run| self.spooled(session, run)).collect();
        let asked = runs.iter().zip(&known);
        let asked = asked.filter(|(_, known)| matches!(known, Known::InDatabase));
        let ids: Vec<JobId> = asked.map(|(run, _)| run.job).collect();
        let rows = if ids.is_empty() {
            Vec::new()
        } else {
            self.reader.get(&ids).await?
        };
        let rows: HashMap<JobId, JobRecord> =
            rows.into_iter().map(|row| (row.job.id, row)).collect();
        let accepting = runs.iter().zip(known).map(|(run, known)| {
            let row = rows.get(&run.job);
            let row = row.filter(|row| session.reaches(&row.job.owner)).cloned();
            async move {
                match known {
                    Known::Has => Ok(()),
                    Known::Refused(refusal) => Err(refusal),
                    Known::InDatabase => self.accept_run(row, run.run, priority).await,
                }
            }
        });
        // All share a flush.
        Ok(join_all(accepting).await)
    }

    fn spooled(&self, session: &Session, run: &RunOf) -> Known {
        let refused = |code, text: &str| Known::Refused(Refusal::new(code, text));
        if !self.book().holds(run.job) {
            // What may still be in the spool of it is about to be removed.
            return Known::InDatabase;
        }
        match self.store.get(run.job) {
            Ok(Some(spooled)) if !session.reaches(&spooled.run.job.owner) => unknown(),
            Ok(Some(spooled)) if spooled.run.number >= run.run => Known::Has,
            Ok(Some(spooled)) if !spooled.has_ended() => {
                refused(ErrorCode::NotFinished, "the run before has not ended")
            }
            Ok(_) => refused(
                ErrorCode::Unavailable,
                "the run before is on its way to the database: try again",
            ),
            Err(problem) => Known::Refused(submit::refusal(&problem)),
        }
    }

    /// Accepts a run of a job that is in the database, unless it is none that could come next.
    async fn accept_run(
        &self,
        row: Option<JobRecord>,
        number: u32,
        priority: Priority,
    ) -> Result<(), Refusal> {
        let refused = |code, text: String| Err(Refusal::new(code, text));
        let Some(JobRecord { job, result }) = row else {
            return refused(ErrorCode::UnknownJob, "no such job".into());
        };
        if job.server != self.server {
            let text = format!("server {} keeps this image: ask it", job.server);
            return refused(ErrorCode::BadRequest, text);
        }
        let Some(last) = result else {
            return refused(ErrorCode::NotFinished, "the job has not ended".into());
        };
        if last.run >= number {
            return Ok(());
        }
        if last.run + 1 != number {
            let text = format!("the next run of this job is {}", last.run + 1);
            return refused(ErrorCode::BadRequest, text);
        }
        let run = Run {
            job,
            number,
            priority,
            accepted_at: Timestamp::now(),
            checksum: None,
        };
        let id = run.job.id;
        // Its place is taken until the book counts it.
        let unfinished = self.book().unfinished_of(&run.job.owner);
        let limits = &self.config.limits;
        let _place = self.quotas.reserve(&run.job.owner, limits, unfinished, 0)?;
        match self.store.rerun(run.clone(), last).await {
            Ok(Accepted::New { .. }) => {
                debug!(job = %id, run = number, "accepted once more");
                self.metrics.reanalyses.inc();
                self.book().add(Box::new(run), Timestamp::now());
                self.dispatch.notify_one();
                Ok(())
            }
            Ok(Accepted::NotKnown) => {
                let text = "the image is not kept any more";
                refused(ErrorCode::ImageMissing, text.into())
            }
            // It is named twice.
            Ok(Accepted::Same(spooled)) if spooled.run.number >= number => Ok(()),
            // It was submitted again in this moment.
            Ok(Accepted::Same(_) | Accepted::Conflict) => {
                refused(ErrorCode::Unavailable, "try again".into())
            }
            Err(problem) => {
                error!(job = %id, "accepting run {number}: {}", chain(&problem));
                Err(submit::refusal(&problem))
            }
        }
    }
}

fn unknown() -> Known {
    Known::Refused(Refusal::new(ErrorCode::UnknownJob, "no such job"))
}

/// As many of the results as fit into a head, and whether there are more.
fn fit(mut results: Vec<JobResult>) -> (Vec<JobResult>, bool) {
    let mut bytes = 0;
    let mut fitting = 0;
    for result in results.iter().take(MAX_RESULTS as usize) {
        let mut encoded = Vec::new();
        // None is over every limit: results are bounded where they come in.
        bytes += encode(result, 0, &mut encoded).map_or(PAGE_BYTES, |()| encoded.len());
        if bytes > PAGE_BYTES && fitting > 0 {
            break;
        }
        fitting += 1;
    }
    let more = fitting < results.len();
    results.truncate(fitting);
    (results, more)
}
