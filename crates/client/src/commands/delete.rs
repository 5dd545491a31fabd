//! `imgsys delete`

use super::{Deed, to_each};
use crate::{
    caller::Caller,
    cli::Named,
    context::Context,
    error::{ClientError, Exit},
};
use imgsys_proto::{ClientMessage, ServerMessage, message::JobRequest};
use imgsys_types::JobId;

/// Deletes jobs that have ended.
pub(crate) async fn run(args: Named, context: Context) -> Result<Exit, ClientError> {
    to_each(args, context, Deed::Deleted, delete).await
}

/// Deletes one job. One that was deleted already is answered the same.
async fn delete(caller: &mut Caller<'_>, job: JobId) -> Result<(), ClientError> {
    let answer = caller
        .call(|req| ClientMessage::Delete(JobRequest { req, job }))
        .await;
    match answer? {
        ServerMessage::Deleted(_) => Ok(()),
        _ => Err(ClientError::Nonsense),
    }
}
