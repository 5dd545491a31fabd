//! Jobs that their owner wants to be rid of.
//!
//! The row in the database goes first, then the file, unless another job has the same image. If
//! the server dies in between, it removes the file when it starts again.

use crate::{
    session::Session,
    shared::{Shared, chain, refuse_job},
    submit::Refusal,
};
use imgsys_history::read::ReadError;
use imgsys_proto::{
    ServerMessage,
    message::{Deleted, JobRequest},
};
use imgsys_store::StoreError;
use imgsys_types::{Digest, ErrorCode, JobId};
use std::{sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often files are looked for that deleted jobs have left, and how often again if that fails.
const COLLECT: Duration = Duration::from_secs(3600);
const AGAIN: Duration = Duration::from_secs(30);
/// How long ago those jobs were deleted at most: a server that dies is started again before long.
const WITHIN: Duration = Duration::from_secs(7 * 86_400);

/// Why a job is still there.
#[derive(Debug, thiserror::Error)]
enum DeleteError {
    #[error("the database")]
    Database(#[from] ReadError),
    #[error("the spool")]
    Store(#[from] StoreError),
}

/// Removes files that deleted jobs have left: a server died in between, or somebody handed the
/// image in again under the id of a deleted job.
pub(crate) async fn collect(shared: Arc<Shared>, end: CancellationToken) {
    let walks = async {
        // Once more soon: what the spool had at the start may have held a file.
        let mut pause = AGAIN;
        loop {
            match shared.collect_deleted().await {
                Ok(removed) => {
                    if removed > 0 {
                        info!("removed {removed} images that deleted jobs had left");
                    }
                    sleep(pause).await;
                    pause = COLLECT;
                }
                Err(problem) => {
                    debug!("removing images of deleted jobs: {}", chain(&problem));
                    sleep(AGAIN).await;
                }
            }
        }
    };
    end.run_until_cancelled(walks).await;
}

impl Session {
    /// Answers `delete`.
    pub(crate) async fn delete(&self, request: JobRequest) {
        let JobRequest { req, job } = request;
        let answer = match self.shared.delete(self, job).await {
            Ok(Ok(())) => {
                info!(%job, owner = %self.owner, "deleted");
                ServerMessage::Deleted(Deleted { req, job })
            }
            Ok(Err(Refusal { code, text, .. })) => {
                ServerMessage::Rejected(refuse_job(req, job, code, text))
            }
            Err(problem) => {
                warn!(%job, "deleting: {}", chain(&problem));
                let text = "it can't be deleted right now";
                let refused = refuse_job(req, job, ErrorCode::Unavailable, text);
                ServerMessage::Rejected(refused)
            }
        };
        self.outbox.send(&answer);
    }
}

impl Shared {
    async fn delete(
        &self,
        session: &Session,
        id: JobId,
    ) -> Result<Result<(), Refusal>, DeleteError> {
        match self.erase(session, id).await? {
            // If it was erased before, its file may still be there.
            Ok(image) => self.remove_unneeded(vec![image]).await.map(|_| Ok(())),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Erases the row of a job that has ended; gives its image.
    async fn erase(
        &self,
        session: &Session,
        id: JobId,
    ) -> Result<Result<Digest, Refusal>, DeleteError> {
        let refuse = |code, text: &str| Ok(Err(Refusal::new(code, text)));
        // No next run is accepted meanwhile.
        let _alone = self.reanalyses.lock().await;
        if let Some(spooled) = self.store.get(id)?
            && self.book().holds(id)
        {
            return if !session.reaches(&spooled.run.job.owner) {
                refuse(ErrorCode::UnknownJob, "no such job")
            } else if spooled.has_ended() {
                refuse(ErrorCode::Unavailable, "its end is being written down")
            } else {
                let text = "it has not ended: cancel it first, or wait for its result";
                refuse(ErrorCode::NotFinished, text)
            };
        }
        let mut found = self.reader.get_with_deleted(&[id]).await?.into_iter();
        let Some(record) = found.find(|found| session.reaches(&found.job.owner)) else {
            return refuse(ErrorCode::UnknownJob, "no such job");
        };
        if record.job.server != self.server {
            let text = format!("server {} keeps its image: ask it", record.job.server);
            return refuse(ErrorCode::BadRequest, &text);
        }
        if record.result.is_none() {
            return refuse(ErrorCode::Unavailable, "its end is being written down");
        }
        // A crash must not bring back what the spool had of it.
        self.store.flush().await?;
        self.reader.erase(&record.job.owner, id).await?;
        Ok(Ok(record.job.sha256))
    }

    /// Removes the files of those images that no job has which is not deleted; how many.
    async fn remove_unneeded(&self, images: Vec<Digest>) -> Result<usize, DeleteError> {
        let needed = async |images: &[Digest]| {
            let needed = self.reader.needed(self.server, images).await?;
            Ok::<_, DeleteError>(needed)
        };
        let gone = self.store.remove_images(images, needed).await?;
        self.metrics.images_removed.inc_by(gone.len() as u64);
        if let Err(problem) = self.producer.forget(&gone).await {
            // Newer ones will push it out.
            warn!(
                "an analysis of a deleted image stays in Redis for now: {}",
                chain(&problem)
            );
        }
        Ok(gone.len())
    }

    async fn collect_deleted(&self) -> Result<usize, DeleteError> {
        let images = self.reader.deleted_images(self.server, WITHIN).await?;
        let store = self.store.clone();
        let left = spawn_blocking(move || {
            let left = images
                .into_iter()
                .filter(|image| store.image_path(image).exists());
            left.collect::<Vec<_>>()
        });
        let left = left.await.map_err(|_| StoreError::Broken)?;
        if left.is_empty() {
            return Ok(0);
        }
        self.remove_unneeded(left).await
    }
}
