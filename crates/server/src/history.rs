//! The history: the database's rows, and the jobs that are still in the spool.

use crate::{
    session::Session,
    shared::{chain, refuse, refuse_job},
    watch::LookUpError,
};
use imgsys_proto::{
    MAX_HEAD, ServerMessage, encode,
    message::{HistoryRequest, JobAnswer, JobRequest, Page},
};
use imgsys_store::{Spooled, StoreError};
use imgsys_types::{Cursor, ErrorCode, FailureReason, HistoryFilter, JobRecord, Outcome, Whose};
use std::{cmp::Reverse, collections::HashSet};
use tokio::task::spawn_blocking;
use tracing::warn;

/// What a page's frame is kept under, so that its other keys have room in the head.
pub(crate) const PAGE_BYTES: usize = MAX_HEAD - 1024;

impl Session {
    /// Answers `history`.
    pub(crate) async fn history(&self, request: HistoryRequest) {
        let req = request.req;
        if let Some(text) = objection(&request.filter) {
            let rejected = refuse(req, ErrorCode::BadRequest, text);
            self.outbox.send(&ServerMessage::Rejected(rejected));
            return;
        }
        let whose = match &request.owner {
            None => Whose::One(self.owner.clone()),
            Some(Whose::One(owner)) if self.reaches(owner) => Whose::One(owner.clone()),
            Some(Whose::All) if self.reaches_all() => Whose::All,
            Some(_) => {
                let text = "to see others' jobs, the token needs the scope admin";
                let rejected = refuse(req, ErrorCode::NotAllowed, text);
                self.outbox.send(&ServerMessage::Rejected(rejected));
                return;
            }
        };
        let most = self.shared.config.limits.wire().max_page;
        let limit = request.limit.clamp(1, most) as usize;
        match self.page(&request, whose, limit).await {
            Ok(page) => self.outbox.send(&ServerMessage::Page(page)),
            Err(problem) => self.unavailable(req, &LookUpError::from(problem)),
        }
    }

    async fn page(
        &self,
        request: &HistoryRequest,
        whose: Whose,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (filter, after) = (&request.filter, request.after);
        let store = &self.shared.store;
        // The spool first: a job that moves to the database meanwhile is in both, never in neither.
        let spooled = self.spooled(whose.clone(), filter.clone(), after, limit + 1);
        let mut spooled = spooled.await?;
        let wanted = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let rows = self.shared.reader.page(&whose, filter, after, wanted);
        let (rows, partial) = match rows.await {
            Ok(rows) => (rows, false),
            Err(problem) => {
                warn!("a page without the database's part: {}", chain(&problem));
                (Vec::new(), true)
            }
        };
        let more = rows.len() > limit || spooled.len() > limit;
        // Handed in again under the id of a deleted job, and about to leave the spool.
        spooled.retain(|record| !is_deleted(record));
        let mut seen: HashSet<_> = spooled.iter().map(|record| record.job.id).collect();
        let mut jobs = spooled;
        for row in rows {
            let id = row.job.id;
            if !seen.insert(id) {
                continue;
            }
            // The spool may know of a result that the database does not have yet.
            let run = |record: &JobRecord| record.result.as_ref().map(|result| result.run);
            match store.get(id)?.map(Spooled::into_record) {
                Some(newer) if run(&newer) > run(&row) => {
                    if filter.matches(&newer) {
                        jobs.push(newer);
                    }
                }
                _ => jobs.push(row),
            }
        }
        jobs.sort_unstable_by_key(|record| Reverse(Cursor::of(record)));
        let more = more || jobs.len() > limit;
        jobs.truncate(limit);
        Ok(fit(request.req, jobs, more, partial))
    }

    /// Jobs in the spool. A filter that few match reads many: off the async threads with it.
    pub(crate) async fn spooled(
        &self,
        whose: Whose,
        filter: HistoryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        if self.shared.store.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.shared.store.clone();
        let page = spawn_blocking(move || store.page(&whose, &filter, after, limit));
        page.await.unwrap_or(Err(StoreError::Broken))
    }

    /// Answers `show`.
    pub(crate) async fn show(&self, request: JobRequest) {
        let JobRequest { req, job } = request;
        let answer = match self.reached_record(request).await {
            Ok(Some(record)) => ServerMessage::Job(JobAnswer { req, record }),
            Ok(None) => {
                let rejected = refuse_job(req, job, ErrorCode::UnknownJob, "no such job");
                ServerMessage::Rejected(rejected)
            }
            Err(problem) => return self.unavailable(req, &problem),
        };
        self.outbox.send(&answer);
    }

    /// The job asked about, if this connection reaches it.
    pub(crate) async fn reached_record(
        &self,
        request: JobRequest,
    ) -> Result<Option<JobRecord>, LookUpError> {
        let record = self.shared.record(request.job).await?;
        Ok(record.filter(|record| self.reaches(&record.job.owner)))
    }
}

fn is_deleted(record: &JobRecord) -> bool {
    let outcome = record.result.as_ref().map(|result| &result.outcome);
    matches!(outcome, Some(Outcome::Failed(failure)) if failure.reason == FailureReason::Deleted)
}

/// What is wrong with a filter, if anything is.
fn objection(filter: &HistoryFilter) -> Option<&'static str> {
    let percent = filter.min_confidence;
    if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        return Some("min_confidence is a percentage: 0 to 100");
    }
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        return Some("since must be before until");
    }
    None
}

/// A page of as many of the jobs as fit into a head.
fn fit(req: u64, mut jobs: Vec<JobRecord>, more: bool, partial: bool) -> Page {
    let mut bytes = 0;
    let mut fitting = 0;
    for record in &jobs {
        let mut encoded = Vec::new();
        // One that can't be encoded is over every limit; results are bounded where they come in, so
        // that there is none.
        bytes += encode(record, 0, &mut encoded).map_or(MAX_HEAD, |()| encoded.len());
        if bytes > PAGE_BYTES {
            break;
        }
        fitting += 1;
    }
    let more = more || fitting < jobs.len();
    jobs.truncate(fitting);
    Page {
        req,
        next: jobs.last().filter(|_| more).map(Cursor::of),
        jobs,
        partial,
    }
}
