//! Removing image files that nobody needs any more.
//!
//! Whether an image is needed can't be told in one moment: the spool and whoever else may rely on
//! it have to be asked, and meanwhile it may be handed in anew. So the committer first notes which
//! images are in question, and marks those of them that a job is accepted for. What is unmarked in
//! the end, and needed by nobody asked in between, goes. No clock has a say in that.

use crate::{Store, StoreError, committer::Op};
use imgsys_types::Digest;
use std::{collections::HashSet, path::Path, time::SystemTime};
use tokio::task::spawn_blocking;

impl Store {
    /// Removes those of the images on which no job in the spool relies, for which none is accepted
    /// meanwhile, and which `needed` does not name when it is given the rest. Returns those that
    /// are gone; their owners have to send them again.
    pub async fn remove_images<E: From<StoreError>>(
        &self,
        images: Vec<Digest>,
        needed: impl AsyncFnOnce(&[Digest]) -> Result<HashSet<Digest>, E>,
    ) -> Result<Vec<Digest>, E> {
        let _only = self.removing().await;
        self.ask(|reply| Op::Question(images.clone(), reply))
            .await?;
        let store = self.clone();
        let unused = spawn_blocking(move || {
            let mut unused: HashSet<_> = images.into_iter().collect();
            let unreadable = store.records(|record| {
                unused.remove(&record.run.job.sha256);
            })?;
            // Whose image is it? Better to keep all.
            Ok::<_, StoreError>(if unreadable == 0 {
                unused
            } else {
                HashSet::new()
            })
        });
        let mut unused = unused.await.map_err(|_| StoreError::Broken)??;
        let asked: Vec<_> = unused.iter().copied().collect();
        for digest in needed(&asked).await? {
            unused.remove(&digest);
        }
        let unused = unused.into_iter().collect();
        Ok(self.ask(|reply| Op::RemoveImages(unused, reply)).await?)
    }

    /// The images whose files were last handed in before this time. Walks the whole directory:
    /// this belongs on a blocking thread.
    pub fn images_before(&self, time: SystemTime) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for file in self.images().files()? {
            let file = file?;
            let Some(digest) = digest_of_name(&file.path()) else {
                continue;
            };
            match file.metadata().and_then(|file| file.modified()) {
                Ok(modified) if modified < time => found.push(digest),
                Ok(_) => {}
                // Removed meanwhile, or the next walk says more.
                Err(error) => tracing::debug!(%digest, %error, "looking at an image's age"),
            }
        }
        Ok(found)
    }
}

fn digest_of_name(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}
