//! `imgsys cancel`

use super::{job_ids, print, print_json};
use crate::{
    caller::{Caller, had_ended},
    cli::Cancel,
    context::Context,
    error::{ClientError, Exit},
};
use imgsys_proto::{ClientMessage, ServerMessage, message::JobRequest};
use imgsys_types::{FailureReason, JobId, JobRecord, Outcome};
use serde::Serialize;

/// What became of one job.
#[derive(Debug, Serialize)]
struct Told {
    job: JobId,
    cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Ends jobs that have not ended yet.
pub(crate) async fn run(args: Cancel, context: Context) -> Result<Exit, ClientError> {
    let mut caller = Caller::new(&context);
    let mut exit = Exit::Ok;
    for job in job_ids(&args.jobs, &context).await? {
        let told = match cancel(&mut caller, job).await {
            Ok(()) => Told {
                job,
                cancelled: true,
                reason: None,
                detail: None,
            },
            Err(ClientError::Refused { code, text }) => {
                exit = Exit::Failed;
                Told {
                    job,
                    cancelled: false,
                    reason: Some(code.as_str()),
                    detail: Some(text),
                }
            }
            Err(error) => return Err(error),
        };
        if args.json {
            print_json(&context.screen, &told)?;
        } else {
            let what = match (told.reason, &told.detail) {
                (Some(reason), Some(detail)) => format!("failed: {reason}: {detail}"),
                _ => "cancelled".to_owned(),
            };
            print(
                &context.screen,
                &format!("{job}  {}\n", crate::clean::clean(&what)),
            )?;
        }
    }
    Ok(exit)
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
