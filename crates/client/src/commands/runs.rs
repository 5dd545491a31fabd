//! What the runs of a job came to, for `history` and `show`.

use crate::{caller::Caller, error::ClientError};
use imgsys_proto::{ClientMessage, ServerMessage, message::RunsRequest};
use imgsys_types::{JobId, JobRecord, JobResult};

/// The job with each of its results, the newest first. Those that have one run at most are not
/// asked about.
pub(crate) async fn all(
    caller: &mut Caller<'_>,
    record: JobRecord,
) -> Result<Vec<JobRecord>, ClientError> {
    if record.result.as_ref().is_none_or(|result| result.run == 0) {
        return Ok(vec![record]);
    }
    let job = record.job;
    let results = results(caller, job.id).await?;
    let runs = results.into_iter().map(|result| JobRecord {
        job: job.clone(),
        result: Some(result),
    });
    Ok(runs.collect())
}

async fn results(caller: &mut Caller<'_>, job: JobId) -> Result<Vec<JobResult>, ClientError> {
    let mut results: Vec<JobResult> = Vec::new();
    loop {
        let before = results.last().map(|result| result.run);
        let question = |req| ClientMessage::Runs(RunsRequest { req, job, before });
        let ServerMessage::Runs(runs) = caller.call(question).await? else {
            return Err(ClientError::Nonsense);
        };
        let is_earlier = |result: &JobResult| before.is_none_or(|before| result.run < before);
        if runs.job != job || !runs.results.iter().all(is_earlier) {
            return Err(ClientError::Nonsense);
        }
        let is_last = !runs.more || runs.results.is_empty();
        results.extend(runs.results);
        if is_last {
            return Ok(results);
        }
    }
}
