//! Telling of jobs that were accepted.

use super::{CHUNK, Producer, by_server};
use crate::{QueueError, events, keys, scripts};
use imgsys_types::{Job, JobRecord, Run};

impl Producer {
    /// Makes the event `accepted` of these runs if they have been sent and have not ended. What is
    /// told twice is a second event, which says nothing new.
    pub async fn tell_accepted(&self, runs: &[Run]) -> Result<(), QueueError> {
        for (server, runs) in by_server(runs, |run| run.job.server) {
            for chunk in runs.chunks(CHUNK) {
                let mut call = scripts::TELL.key(self.keys().events());
                call.key(self.keys().open(server));
                for run in chunk {
                    call.arg(run.job.id.to_string())
                        .arg(keys::queued(run.number))
                        .arg(accepted(&run.job)?);
                }
                self.script::<()>("take events", &call).await?;
            }
        }
        Ok(())
    }
}

/// The data of the event `accepted`.
pub(super) fn accepted(job: &Job) -> Result<String, QueueError> {
    let record = JobRecord {
        job: job.clone(),
        result: None,
    };
    Ok(events::to_json(&record)?)
}
