//! `imgsys reanalyze`

use super::{history, job_ids, show};
use crate::{
    backoff::Backoff,
    caller::Caller,
    cli::Reanalyze,
    context::Context,
    driver::{Audience, Driver},
    error::{ClientError, Exit},
    report::{End, Report},
    reporter::{Form, Reporter},
    session::{Rules, Session},
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Reanalyze as Request, Reanalyzing, RefusedRun, RunOf},
};
use imgsys_types::{Cursor, ErrorCode, HistoryFilter, JobId, JobRecord, Priority, Whose};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Jobs on a page of the history.
const PAGE: u32 = 1000;

/// Asks for jobs' next runs, and tells how they end.
pub(crate) async fn run(args: Reanalyze, mut context: Context) -> Result<Exit, ClientError> {
    let filter = args.filter.wire();
    let whose = args.whose.wire();
    let unfiltered = filter == HistoryFilter::default() && whose.is_none();
    if args.jobs.is_empty() && filter == HistoryFilter::default() && !args.all {
        let text =
            "which jobs? Give their ids, or say what they have in common (see --help), or --all";
        return Err(ClientError::Usage(text.into()));
    }
    if !args.jobs.is_empty() && !unfiltered {
        let text = "jobs are told by their ids or by what they have in common, not by both";
        return Err(ClientError::Usage(text.into()));
    }
    context.screen.start_bar();
    let form = match (
        args.json,
        args.no_wait || args.dry_run,
        context.screen.is_quiet(),
    ) {
        (true, ..) => Form::Json,
        (false, true, true) => Form::Ids,
        (false, true, false) => Form::Accepted,
        (false, false, _) => Form::Table,
    };
    let mut reporter = Reporter::new(&context, form);
    let mut batches = Batches {
        caller: Caller::new(&context),
        context: &context,
        priority: args.priority,
        dry_run: args.dry_run,
        began: Instant::now(),
        reporter: &mut reporter,
        accepted: Vec::new(),
        tell: args.no_wait || args.dry_run,
    };
    let asked = async {
        if args.jobs.is_empty() {
            batches.matching(filter, whose).await
        } else {
            batches.named(job_ids(&args.jobs, &context).await?).await
        }
    };
    // What was accepted until then goes on, and is waited for or told.
    let asked = tokio::select! {
        asked = asked => asked,
        () = context.interrupted() => Err(ClientError::Interrupted),
    };
    let accepted = batches.accepted;
    if args.no_wait || args.dry_run {
        return Ok(reporter.finish(asked));
    }
    let mut session = Session::new(Rules {
        jobs: 1,
        wait: true,
        priority: Priority::default(),
        patience: context.retry_for,
        max_cuts: 1,
    });
    for job in accepted {
        session.add_job(job, Instant::now());
    }
    let driver = Driver::new(&context, &mut session, &mut reporter, None);
    let waited = driver.run(args.timeout).await;
    Ok(reporter.finish(asked.and(waited)))
}

/// Asks for runs, as many at a time as a request may have.
struct Batches<'a> {
    caller: Caller<'a>,
    context: &'a Context,
    priority: Priority,
    dry_run: bool,
    began: Instant,
    reporter: &'a mut Reporter,
    /// Whether to tell what is accepted at once, for nobody waits for its end.
    tell: bool,
    accepted: Vec<JobId>,
}

impl Batches<'_> {
    /// The jobs with these ids.
    async fn named(&mut self, jobs: Vec<JobId>) -> Result<(), ClientError> {
        for jobs in jobs.chunks(Request::MAX) {
            let mut records = Vec::with_capacity(jobs.len());
            for &job in jobs {
                match show::fetch(&mut self.caller, job).await {
                    Ok(record) => records.push(record),
                    Err(ClientError::Refused { code, text }) => {
                        self.refused(job, None, code, text)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.ask(&records).await?;
        }
        Ok(())
    }

    /// The jobs that have ended and that the filter lets pass, newest first.
    async fn matching(
        &mut self,
        filter: HistoryFilter,
        whose: Option<Whose>,
    ) -> Result<(), ClientError> {
        let mut after: Option<Cursor> = None;
        loop {
            let page =
                history::fetch(&mut self.caller, PAGE, after, &filter, whose.as_ref()).await?;
            if page.partial {
                let text = "the server can't reach its database: try again later";
                return Err(ClientError::Plain(text.into()));
            }
            let ended = page.jobs.into_iter().filter(|job| job.result.is_some());
            let ended: Vec<JobRecord> = ended.collect();
            for records in ended.chunks(Request::MAX) {
                self.ask(records).await?;
            }
            match page.next {
                None => return Ok(()),
                next if next == after => return Err(ClientError::Nonsense),
                next => after = next,
            }
        }
    }

    /// Asks for the next run of each of these jobs, again and again as long as it is refused only
    /// for now.
    async fn ask(&mut self, records: &[JobRecord]) -> Result<(), ClientError> {
        let mut left: HashMap<JobId, &JobRecord> = HashMap::new();
        let mut runs = Vec::with_capacity(records.len());
        for record in records {
            let job = record.job.id;
            // A job that has not ended is asked for all the same: the server says what is the matter.
            let newest = record.result.as_ref().map_or(0, |result| result.run);
            if left.insert(job, record).is_none() {
                runs.push(RunOf {
                    job,
                    run: newest.saturating_add(1),
                });
            }
        }
        let since = Instant::now();
        let mut backoff = Backoff::request();
        while !runs.is_empty() {
            let answer = self.request(&runs).await?;
            for job in answer.accepted {
                if let Some(record) = left.remove(&job) {
                    self.is_accepted(record)?;
                }
            }
            let is_over = since.elapsed() >= self.context.retry_for;
            for RefusedRun { job, code, text } in answer.refused {
                if code.is_transient() && !is_over {
                    continue;
                }
                if let Some(record) = left.remove(&job) {
                    self.refused(job, Some(record), code, text)?;
                }
            }
            runs.retain(|run| left.contains_key(&run.job));
            if !runs.is_empty() {
                sleep(backoff.pause().max(Duration::from_millis(200))).await;
            }
            if is_over && !runs.is_empty() {
                return Err(ClientError::Nonsense);
            }
        }
        Ok(())
    }

    async fn request(&mut self, runs: &[RunOf]) -> Result<Reanalyzing, ClientError> {
        if self.dry_run {
            return Ok(Reanalyzing {
                req: 0,
                accepted: runs.iter().map(|run| run.job).collect(),
                refused: Vec::new(),
            });
        }
        let priority = self.priority;
        let question = |req| {
            ClientMessage::Reanalyze(Request {
                req,
                runs: runs.to_vec(),
                priority,
            })
        };
        match self.caller.call(question).await? {
            ServerMessage::Reanalyzing(answer) => Ok(answer),
            _ => Err(ClientError::Nonsense),
        }
    }

    fn is_accepted(&mut self, record: &JobRecord) -> Result<(), ClientError> {
        self.accepted.push(record.job.id);
        if self.tell {
            let report = self.report(record.job.id, Some(record), End::Accepted);
            self.reporter.report(report)?;
        }
        Ok(())
    }

    fn refused(
        &mut self,
        job: JobId,
        record: Option<&JobRecord>,
        code: ErrorCode,
        detail: String,
    ) -> Result<(), ClientError> {
        let reason = code.as_str();
        let report = self.report(job, record, End::Failed { reason, detail });
        self.reporter.report(report)
    }

    fn report(&self, job: JobId, record: Option<&JobRecord>, end: End) -> Report {
        let known = record.map(|record| &record.job);
        Report {
            job: Some(job),
            name: known.map(|job| job.name.clone()),
            size: known.map(|job| job.size),
            sha256: known.map(|job| job.sha256),
            duplicate: None,
            submitted_at: known.map(|job| job.submitted_at),
            elapsed: self.began.elapsed(),
            end,
        }
    }
}
