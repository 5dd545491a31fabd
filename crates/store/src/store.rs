//! The store as others see it.

mod page;
mod recover;

pub use recover::Recovered;

use crate::{
    SMALL_IMAGE, StoreError,
    committer::{Op, Reply},
    error::database,
    health::Health,
    images::Images,
    known::{Learnt, Sizes},
    log::{Window, record::Salt},
    spool::Spool,
    tables::{self, KNOWN},
    upload::{Staged, Upload, check_bytes},
};
use bytes::Bytes;
use imgsys_types::{Checksum, Digest, Job, JobId, JobRecord, JobResult, Owner, Run, ServerId};
use redb::{Database, ReadableDatabase};
use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc::Sender},
    thread::JoinHandle,
};
use tokio::{
    sync::{Mutex, MutexGuard, oneshot},
    task::spawn_blocking,
};

/// How an accepted image is brought.
#[derive(Debug)]
pub enum Image {
    /// Not at all: the owner has sent these bytes before.
    Known,
    /// Whole, in memory. Best for images up to [`SMALL_IMAGE`].
    Bytes(Bytes),
    /// As it came in.
    Upload(Upload),
}

/// A job in the spool.
#[derive(Debug, Clone, PartialEq)]
pub struct Spooled {
    /// The job, and which of its runs this is.
    pub run: Run,
    /// The newest result that is known. Of a reanalysis under way it is that of the run before.
    pub result: Option<JobResult>,
}

impl Spooled {
    /// What the run came to, once it has ended.
    #[must_use]
    pub fn end(&self) -> Option<&JobResult> {
        // A submission may turn out to be one of long ago, which has been analysed again since.
        let result = self.result.as_ref();
        result.filter(|result| result.run >= self.run.number)
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end().is_some()
    }

    /// The job as the history shows it.
    #[must_use]
    pub fn into_record(self) -> JobRecord {
        JobRecord {
            job: self.run.job,
            result: self.result,
        }
    }
}

/// What became of a job that was to be accepted.
#[derive(Debug)]
pub enum Accepted {
    /// It is in the spool, and its image on disk.
    New {
        /// Whether the owner had sent this image before.
        duplicate: bool,
        /// That of the bytes that came.
        checksum: Option<Checksum>,
    },
    /// It was in the spool already, with this owner and digest.
    Same(Box<Spooled>),
    /// Its id is in the spool with another owner or digest.
    Conflict,
    /// The owner has not sent this image before, or its file is gone: its bytes are needed.
    NotKnown,
}

/// The server's disk. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    committer: Option<(Sender<Op>, JoinHandle<()>)>,
    removing: Mutex<()>,
}

/// What the committer and the readers share.
pub(crate) struct Shared {
    pub(crate) server: ServerId,
    // Before the directories, so that it is closed before their locks are given back.
    pub(crate) database: Database,
    /// What the checksums of the log begin with.
    pub(crate) salt: Salt,
    pub(crate) spool: RwLock<Spool>,
    pub(crate) learnt: RwLock<Learnt>,
    pub(crate) images: Arc<Images>,
    pub(crate) health: Arc<Health>,
    pub(crate) dir: PathBuf,
    pub(crate) dir_handle: File,
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, queue: Sender<Op>, committer: JoinHandle<()>) -> Self {
        Self(Arc::new(Inner {
            shared,
            committer: Some((queue, committer)),
            removing: Mutex::new(()),
        }))
    }

    /// The server's name, made when its directory was.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        self.0.shared.server
    }

    /// The directory of the image files.
    #[must_use]
    pub fn images_dir(&self) -> &Path {
        self.0.shared.images.dir()
    }

    /// Where the image's file is if it is known. A file there that no owner is known to have
    /// sent may be what a crash left: ask [`Store::knows`].
    #[must_use]
    pub fn image_path(&self, digest: &Digest) -> PathBuf {
        self.0.shared.images.path(digest)
    }

    /// Whether the owner has sent this image and its file is there.
    pub fn knows(&self, owner: &Owner, sha256: &Digest) -> Result<bool, StoreError> {
        let shared = &self.0.shared;
        let size = shared.sizes(sha256, owner)?.own;
        size.map_or(Ok(false), |size| shared.images.is_present(sha256, size))
    }

    /// Begins an upload. A file is made for it only once it is larger than [`SMALL_IMAGE`].
    pub fn upload(&self) -> Result<Upload, StoreError> {
        self.0.shared.check_health()?;
        let shared = &self.0.shared;
        Ok(Upload::new(
            Arc::clone(&shared.images),
            Arc::clone(&shared.health),
        ))
    }

    /// Accepts a job: returns when its image and its record are on disk, together with all that
    /// was asked for at the same time. Image and job are checked against each other first.
    ///
    /// The job is accepted (or not) even if nobody waits for the answer: asking again tells.
    pub async fn accept(&self, job: Job, image: Image) -> Result<Accepted, StoreError> {
        self.0.shared.check_health()?;
        let came = match image {
            Image::Known => None,
            Image::Bytes(bytes) if bytes.len() <= SMALL_IMAGE => {
                check_bytes(&bytes, &job)?;
                let checksum = Checksum::of(&bytes);
                Some((Staged::Bytes(bytes), checksum))
            }
            Image::Bytes(bytes) => {
                let mut upload = self.upload()?;
                upload.write(&bytes).await?;
                Some(upload.finish(&job).await?)
            }
            Image::Upload(upload) => Some(upload.finish(&job).await?),
        };
        let (staged, checksum) = match came {
            Some((staged, checksum)) => (staged, Some(checksum)),
            // Its bytes are not at hand.
            None => (Staged::Known, None),
        };
        let run = Run {
            checksum,
            ..Run::submission(job)
        };
        self.ask(|reply| Op::Accept(Box::new((run, staged)), reply))
            .await
    }

    /// Accepts a later run of a job that left the spool with this result: returns when that is on
    /// disk. [`Accepted::NotKnown`] says that the image is not here any more.
    pub async fn rerun(&self, run: Run, last: JobResult) -> Result<Accepted, StoreError> {
        self.0.shared.check_health()?;
        let result = Some(last);
        let spooled = Box::new(Spooled { run, result });
        self.ask(|reply| Op::Rerun(spooled, reply)).await
    }

    /// The job, if it is in the spool.
    pub fn get(&self, job: JobId) -> Result<Option<Spooled>, StoreError> {
        let shared = &self.0.shared;
        // Its own statement: the lock is not held while the disk is read.
        let found = shared.spool().find(job)?;
        let read = |job| Window::narrow().spooled(&job, shared.salt);
        found.map(read).transpose()
    }

    /// Keeps what a job's run came to, unless that is known: the first result stands. Returns the
    /// one that stands, on disk, or `None` if the job is not in the spool, or if neither this
    /// result nor any other is of its run.
    pub async fn set_result(
        &self,
        job: JobId,
        result: JobResult,
    ) -> Result<Option<JobResult>, StoreError> {
        self.ask(|reply| Op::SetResult(Box::new((job, result)), reply))
            .await
    }

    /// Takes jobs out of the spool, as they are in the database. This happens with the next
    /// commit, or alone within a second or so; a crash before that brings them back.
    pub fn remove(&self, jobs: Vec<JobId>) {
        // A committer that is gone has said why; a removal that is lost is harmless.
        self.0.send(Op::Remove(jobs));
    }

    /// The bytes of images that came from each owner on the last day on which any came: owner,
    /// day (UTC, since 1970), bytes. An image that was known already is no bytes.
    pub fn spent(&self) -> Result<Vec<(Owner, i64, u64)>, StoreError> {
        Ok(self.0.shared.learnt().spent())
    }

    /// How many jobs are in the spool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shared.spool().jobs.len()
    }

    /// Whether the spool is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves once a flush has failed. From then on nothing is accepted: the process has to
    /// open the store anew.
    pub async fn broken(&self) {
        self.0.shared.health.broken().await;
    }

    /// Waits until all that was asked for before, removals too, is on disk.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Op::Flush).await
    }

    /// Flushes what is queued and, if there is no other clone, closes the files and gives back
    /// the locks; uploads under way still hold that of the images.
    pub async fn close(self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "closing the store");
        }
        if spawn_blocking(move || drop(self)).await.is_err() {
            tracing::warn!("closing the store was given up");
        }
    }

    /// There is one removal at a time.
    pub(crate) async fn removing(&self) -> MutexGuard<'_, ()> {
        self.0.removing.lock().await
    }

    pub(crate) fn images(&self) -> &Images {
        &self.0.shared.images
    }

    pub(crate) async fn ask<T>(&self, op: impl FnOnce(Reply<T>) -> Op) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        if !self.0.send(op(reply)) {
            return Err(StoreError::Broken);
        }
        answer.await.unwrap_or(Err(StoreError::Broken))
    }
}

impl Inner {
    fn send(&self, op: Op) -> bool {
        let committer = self.committer.as_ref();
        committer.is_some_and(|(queue, _)| queue.send(op).is_ok())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((queue, committer)) = self.committer.take() {
            drop(queue);
            if committer.join().is_err() {
                tracing::error!("the store's committer has panicked");
            }
        }
    }
}

impl Shared {
    pub(crate) fn spool(&self) -> RwLockReadGuard<'_, Spool> {
        self.spool.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spool_mut(&self) -> RwLockWriteGuard<'_, Spool> {
        self.spool.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn learnt(&self) -> RwLockReadGuard<'_, Learnt> {
        self.learnt.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn learnt_mut(&self) -> RwLockWriteGuard<'_, Learnt> {
        self.learnt.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes may still be written, to whichever disk has less room.
    pub(crate) fn room(&self) -> Result<u64, StoreError> {
        let spool = self.images.room_beside(&self.dir_handle, &self.dir)?;
        Ok(spool.min(self.images.room()?))
    }

    fn check_health(&self) -> Result<(), StoreError> {
        if self.health.is_broken() {
            return Err(StoreError::Broken);
        }
        Ok(())
    }

    /// The size of an image as sent by this owner.
    fn sizes(&self, digest: &Digest, owner: &Owner) -> Result<Sizes, StoreError> {
        const DOING: &str = "reading the index of images";
        // Before the table: what is on its way into it leaves the memory only afterwards.
        let sizes = self.learnt().sizes(digest, owner);
        if sizes.is_settled() {
            return Ok(sizes);
        }
        let transaction = self.database.begin_read().map_err(database(DOING))?;
        let table = transaction.open_table(KNOWN).map_err(database(DOING))?;
        let (own, anyone) = tables::known(&table, digest, owner)?;
        Ok(sizes.or(|| Sizes::in_table(own, anyone)))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("server", &self.server)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
