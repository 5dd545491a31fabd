//! Who waits for which job.

use crate::{
    outbox::Outbox,
    session::Session,
    shared::{Shared, chain, refuse},
};
use imgsys_history::read::ReadError;
use imgsys_proto::{
    ServerMessage,
    message::{JobEnd, Watch, Watching},
};
use imgsys_store::StoreError;
use imgsys_types::{ErrorCode, JobId, JobRecord};
use std::{collections::HashMap, sync::Arc};
use tracing::warn;

/// Why a job can't be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookUpError {
    #[error("the spool")]
    Store(#[from] StoreError),
    #[error("the database")]
    Database(#[from] ReadError),
}

impl Shared {
    /// A job as it stands: from the spool, else from the database.
    pub(crate) async fn record(&self, id: JobId) -> Result<Option<JobRecord>, LookUpError> {
        if let Some(spooled) = self.store.get(id)? {
            return Ok(Some(spooled.into_record()));
        }
        Ok(self.reader.get(&[id]).await?.pop())
    }

    /// The same, with jobs that were deleted: that too is an end to be told.
    pub(crate) async fn end_of(&self, id: JobId) -> Result<Option<JobRecord>, LookUpError> {
        if let Some(spooled) = self.store.get(id)? {
            return Ok(Some(spooled.into_record()));
        }
        Ok(self.reader.get_with_deleted(&[id]).await?.pop())
    }

    /// Watches a job that was in the spool a moment ago.
    pub(crate) fn watch_spooled(&self, id: JobId, outbox: &Arc<Outbox>) {
        outbox.owe(id);
        self.book().watch(id, outbox);
        // It may have ended before it was watched. If it is told by somebody else in this moment,
        // it is not watched any more, and not told twice.
        match self.store.get(id) {
            Ok(Some(spooled)) => {
                if let Some(result) = spooled.end()
                    && self.book().unwatch(id, outbox)
                {
                    outbox.end(&JobEnd {
                        job: id,
                        sha256: spooled.run.job.sha256,
                        result: result.clone(),
                    });
                }
            }
            Ok(None) | Err(_) => {
                if self.book().unwatch(id, outbox) {
                    outbox.look_up(id);
                }
            }
        }
    }
}

impl Session {
    /// Answers `watch`: says which jobs are unknown, then tells how each of the others ends.
    pub(crate) async fn watch(self: &Arc<Self>, request: Watch) {
        let req = request.req;
        let most = self.shared.config.limits.max_watched as usize;
        if self.outbox.owed() + request.jobs.len() > most {
            let text = format!("at most {most} jobs can be watched on a connection");
            let rejected = refuse(req, ErrorCode::TooManyWatched, text);
            self.outbox.send(&ServerMessage::Rejected(rejected));
            return;
        }
        let mut spooled = Vec::new();
        let mut elsewhere = Vec::new();
        let mut unknown = Vec::new();
        for id in request.jobs {
            match self.shared.store.get(id) {
                Ok(Some(found)) if self.reaches(&found.run.job.owner) => spooled.push(id),
                Ok(Some(_)) => unknown.push(id),
                Ok(None) => elsewhere.push(id),
                Err(problem) => {
                    self.unavailable(req, &LookUpError::from(problem));
                    return;
                }
            }
        }
        let rows = match self.rows(&elsewhere).await {
            Ok(rows) => rows,
            Err(problem) => {
                self.unavailable(req, &LookUpError::from(problem));
                return;
            }
        };
        let mut rows: HashMap<JobId, JobRecord> =
            rows.into_iter().map(|row| (row.job.id, row)).collect();
        let mut found = Vec::new();
        for id in elsewhere {
            match rows.remove(&id) {
                Some(row) if self.reaches(&row.job.owner) => found.push(row),
                _ => unknown.push(id),
            }
        }
        let answer = Watching { req, unknown };
        self.outbox.send(&ServerMessage::Watching(answer));
        for id in spooled {
            self.shared.watch_spooled(id, &self.outbox);
        }
        for row in found {
            self.watch_row(&row);
        }
    }

    async fn rows(&self, ids: &[JobId]) -> Result<Vec<JobRecord>, ReadError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.shared.reader.get(ids).await
    }

    /// Watches a job that is in the database.
    fn watch_row(self: &Arc<Self>, row: &JobRecord) {
        let id = row.job.id;
        self.outbox.owe(id);
        if let Some(result) = &row.result {
            self.outbox.end(&JobEnd {
                job: id,
                sha256: row.job.sha256,
                result: result.clone(),
            });
        } else {
            let mut book = self.shared.book();
            book.watch(id, &self.outbox);
            book.note_foreign(id);
        }
    }

    /// Refuses a request for which the spool or the database is needed.
    pub(crate) fn unavailable(&self, req: u64, problem: &LookUpError) {
        warn!("a request can't be answered: {}", chain(problem));
        let text = match problem {
            LookUpError::Store(_) => "the server can't read its spool: try later",
            LookUpError::Database(_) => "the database does not answer: try later",
        };
        let rejected = refuse(req, ErrorCode::Unavailable, text);
        self.outbox.send(&ServerMessage::Rejected(rejected));
    }
}
