//! An image on its way in.

use crate::{
    Durability, SMALL_IMAGE, StoreError,
    error::io_error,
    health::Health,
    images::{Images, Temporary, digest_of},
};
use bytes::Bytes;
use imgsys_types::{Digest, Job};
use sha2::{Digest as _, Sha256};
use std::{fs::File, io, io::Write, sync::Arc};
use tokio::task::spawn_blocking;

/// How many bytes gather before they are worth a hop to a blocking thread.
const CHUNK: usize = 256 << 10;

/// An image on its way in: in memory while it is small, then in a file that is removed unless
/// the upload is accepted. Nothing is written or hashed on the async threads but small images.
#[derive(Debug)]
pub struct Upload {
    images: Arc<Images>,
    health: Arc<Health>,
    stage: Stage,
    buffer: Vec<u8>,
    size: u64,
}

#[derive(Debug)]
enum Stage {
    Memory,
    File(Box<Writer>),
    /// A write failed, or its future was dropped before it was done.
    Lost,
}

#[derive(Debug)]
struct Writer {
    file: File,
    temporary: Temporary,
    hasher: Sha256,
}

/// An image that was checked against its job, ready for the committer.
#[derive(Debug)]
pub(crate) enum Staged {
    /// The sender thinks that it is here.
    Known,
    /// To be written by the committer.
    Bytes(Bytes),
    /// Written and flushed, to be renamed by the committer.
    File(Temporary),
}

impl Upload {
    pub(crate) fn new(images: Arc<Images>, health: Arc<Health>) -> Self {
        Self {
            images,
            health,
            stage: Stage::Memory,
            buffer: Vec::new(),
            size: 0,
        }
    }

    /// How many bytes came so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the image's next bytes.
    ///
    /// When this fails, or its future is dropped before it is done, the upload is lost: every
    /// later use of it fails.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        let limit = match self.stage {
            Stage::Memory => SMALL_IMAGE,
            Stage::File(_) => CHUNK,
            Stage::Lost => return Err(self.lost()),
        };
        if self.buffer.len() + bytes.len() <= limit {
            self.buffer.extend_from_slice(&bytes);
            return Ok(());
        }
        let images = Arc::clone(&self.images);
        let stage = std::mem::replace(&mut self.stage, Stage::Lost);
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = spawn_blocking(move || {
            let mut writer = stage.into_writer(&images)?;
            writer.write(&images, &buffer)?;
            writer.write(&images, &bytes)?;
            buffer.clear();
            Ok((writer, buffer))
        });
        let (writer, buffer) = written.await.map_err(|_| self.lost())??;
        self.stage = Stage::File(writer);
        self.buffer = buffer;
        Ok(())
    }

    /// Checks the whole image against its job and flushes its file.
    pub(crate) async fn finish(self, job: &Job) -> Result<Staged, StoreError> {
        if self.size != job.size {
            return Err(StoreError::SizeMismatch {
                announced: job.size,
                found: self.size,
            });
        }
        let lost = self.lost();
        let Self {
            images,
            health,
            stage,
            buffer,
            ..
        } = self;
        match stage {
            Stage::Lost => Err(lost),
            Stage::Memory => {
                check(Sha256::new_with_prefix(&buffer), job.sha256)?;
                Ok(Staged::Bytes(buffer.into()))
            }
            Stage::File(mut writer) => {
                let announced = job.sha256;
                let finished = spawn_blocking(move || {
                    writer.write(&images, &buffer)?;
                    check(writer.hasher, announced)?;
                    if matches!(images.durability, Durability::Fsync) {
                        // Here, so that the commit that many wait for finds it done.
                        let flushed = writer.file.sync_data();
                        flushed.map_err(|error| {
                            let path = &writer.temporary.path;
                            let error = io_error("flushing an upload to", path)(error);
                            health.set_broken(&error);
                            error
                        })?;
                    }
                    Ok(Staged::File(writer.temporary))
                });
                finished.await.map_err(|_| lost)?
            }
        }
    }

    fn lost(&self) -> StoreError {
        let reason = io::Error::other("an earlier write failed or was given up");
        io_error("going on with an upload in", self.images.dir())(reason)
    }
}

impl Stage {
    fn into_writer(self, images: &Images) -> Result<Box<Writer>, StoreError> {
        if let Self::File(writer) = self {
            return Ok(writer);
        }
        let (file, temporary) = images.new_upload()?;
        let hasher = Sha256::new();
        Ok(Box::new(Writer {
            file,
            temporary,
            hasher,
        }))
    }
}

impl Writer {
    fn write(&mut self, images: &Images, bytes: &[u8]) -> Result<(), StoreError> {
        let path = &self.temporary.path;
        if images.room()? < bytes.len() as u64 {
            let full = io::ErrorKind::StorageFull.into();
            return Err(io_error("writing an upload to", path)(full));
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(io_error("writing an upload to", path))
    }
}

/// Checks bytes that are in memory against their job.
pub(crate) fn check_bytes(bytes: &[u8], job: &Job) -> Result<(), StoreError> {
    let found = bytes.len() as u64;
    if found != job.size {
        return Err(StoreError::SizeMismatch {
            announced: job.size,
            found,
        });
    }
    check(Sha256::new_with_prefix(bytes), job.sha256)
}

fn check(hasher: Sha256, announced: Digest) -> Result<(), StoreError> {
    let found = digest_of(hasher);
    if found == announced {
        Ok(())
    } else {
        Err(StoreError::DigestMismatch { announced, found })
    }
}
