//! `imgsys cancel`

use super::{Deed, to_each};
use crate::{
    caller::{Caller, had_ended},
    cli::Named,
    context::Context,
    error::{ClientError, Exit},
};
use imgsys_proto::{ClientMessage, ServerMessage, message::JobRequest};
use imgsys_types::{FailureReason, JobId, JobRecord, Outcome};

/// Ends jobs that have not ended yet.
pub(crate) async fn run(args: Named, context: Context) -> Result<Exit, ClientError> {
    to_each(args, context, Deed::Cancelled, cancel).await
}

/// Cancels one job. If a first answer was lost with the connection, the second says that the job
/// had ended: then it counts how it ended.
async fn cancel(caller: &mut Caller<'_>, job: JobId) -> Result<(), ClientError> {
    let answer = caller
        .call(|req| ClientMessage::Cancel(JobRequest { req, job }))
        .await;
    match answer {
        Ok(ServerMessage::Cancelled(_)) => Ok(()),
        Ok(_) => Err(ClientError::Nonsense),
        Err(error) if had_ended(&error) => {
            match caller
                .call(|req| ClientMessage::Show(JobRequest { req, job }))
                .await
            {
                Ok(ServerMessage::Job(answer)) if is_cancelled(&answer.record) => Ok(()),
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

fn is_cancelled(record: &JobRecord) -> bool {
    let outcome = record.result.as_ref().map(|result| &result.outcome);
    matches!(outcome, Some(Outcome::Failed(failure)) if failure.reason == FailureReason::Cancelled)
}
