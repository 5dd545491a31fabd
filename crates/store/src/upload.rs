//! An image on its way in.

use crate::{
    Durability, SMALL_IMAGE, StoreError,
    buffer::{ALIGN, Buffer},
    error::io_error,
    health::Health,
    images::{Images, Temporary, digest_of},
};
use bytes::Bytes;
use imgsys_types::{Checksum, Digest, Job, Summing};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use std::{fs::File, io, io::Write, sync::Arc};
use tokio::task::spawn_blocking;

/// From which length on files are written past the kernel's cache, if at all: below it, setting up the
/// disk's own transfer costs more than the copy that is saved.
pub(crate) const DIRECT_MIN: u64 = 128 << 10;

/// An image on its way in: in a buffer while it is small, then in a file that is removed unless
/// the upload is accepted. Nothing is written or hashed on the async threads but small images.
#[derive(Debug)]
pub struct Upload {
    images: Arc<Images>,
    health: Arc<Health>,
    stage: Stage,
    /// `None` if the upload is lost.
    buffer: Option<Buffer>,
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
    summing: Summing,
    /// Whether it is written past the kernel's cache.
    direct: bool,
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
            buffer: Some(images.buffers.take()),
            images,
            health,
            stage: Stage::Memory,
            size: 0,
        }
    }

    /// How many bytes came so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where the image's next bytes go: [`Upload::filled`] says how many did. Empty only if the
    /// upload is lost.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], Buffer::room)
    }

    /// So many bytes were put into [`Upload::room`].
    ///
    /// When this fails, or its future is dropped before it is done, the upload is lost: every
    /// later use of it fails.
    pub async fn filled(&mut self, count: usize) -> Result<(), StoreError> {
        let Some(buffer) = &mut self.buffer else {
            return Err(self.lost());
        };
        self.size += count as u64;
        buffer.fill(count);
        if !buffer.is_full() {
            return Ok(());
        }
        let Some(mut buffer) = self.buffer.take() else {
            return Err(self.lost());
        };
        let images = Arc::clone(&self.images);
        let stage = std::mem::replace(&mut self.stage, Stage::Lost);
        let written = spawn_blocking(move || {
            let mut writer = stage.into_writer(&images, u64::MAX)?;
            writer.write(&images, &mut buffer)?;
            buffer.clear();
            Ok((writer, buffer))
        });
        let (writer, buffer) = written.await.map_err(|_| self.lost())??;
        self.stage = Stage::File(writer);
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Takes the image's next bytes, which lie somewhere else. Fails as [`Upload::filled`] does.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = bytes.len().min(room.len());
            let (now, later) = bytes.split_at(count);
            room[..count].copy_from_slice(now);
            self.filled(count).await?;
            bytes = later;
        }
        Ok(())
    }

    /// Checks the whole image against its job and flushes its file; gives its checksum, too.
    pub(crate) async fn finish(mut self, job: &Job) -> Result<(Staged, Checksum), StoreError> {
        if self.size != job.size {
            return Err(StoreError::SizeMismatch {
                announced: job.size,
                found: self.size,
            });
        }
        let lost = self.lost();
        let Some(mut buffer) = self.buffer.take() else {
            return Err(lost);
        };
        let announced = job.sha256;
        let stage = std::mem::replace(&mut self.stage, Stage::Lost);
        if matches!(stage, Stage::Memory) && self.size <= SMALL_IMAGE as u64 {
            check(Sha256::new_with_prefix(buffer.filled()), announced)?;
            let bytes = Bytes::copy_from_slice(buffer.filled());
            self.images.buffers.give_back(buffer);
            let checksum = Checksum::of(&bytes);
            return Ok((Staged::Bytes(bytes), checksum));
        }
        let (images, health, size) = (
            Arc::clone(&self.images),
            Arc::clone(&self.health),
            self.size,
        );
        let finished = spawn_blocking(move || {
            let mut writer = stage.into_writer(&images, size)?;
            writer.write(&images, &mut buffer)?;
            images.buffers.give_back(buffer);
            let checksum = writer.summing.checksum();
            let file = writer.finish(size, announced, images.durability, &health)?;
            Ok((Staged::File(file), checksum))
        });
        finished.await.map_err(|_| lost)?
    }

    fn lost(&self) -> StoreError {
        let reason = io::Error::other("an earlier write failed or was given up");
        io_error("going on with an upload in", self.images.dir())(reason)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.images.buffers.give_back(buffer);
        }
    }
}

impl Stage {
    /// The file of an upload that will have so many bytes.
    fn into_writer(self, images: &Images, size: u64) -> Result<Box<Writer>, StoreError> {
        if let Self::File(writer) = self {
            return Ok(writer);
        }
        let direct = images.direct_io && size >= DIRECT_MIN;
        let (file, temporary) = images.new_upload()?;
        Ok(Box::new(Writer {
            direct: direct && set_direct(&file, true).is_ok(),
            file,
            temporary,
            hasher: Sha256::new(),
            summing: Summing::default(),
        }))
    }
}

impl Writer {
    fn write(&mut self, images: &Images, buffer: &mut Buffer) -> Result<(), StoreError> {
        let path = &self.temporary.path;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Ok(());
        }
        if images.room()? < bytes.len() as u64 {
            let full = io::ErrorKind::StorageFull.into();
            return Err(io_error("writing an upload to", path)(full));
        }
        self.hasher.update(bytes);
        // Now, as they are in the processor's cache.
        self.summing.update(bytes);
        let written = if self.direct {
            // What is too much at the end of the last piece is cut off when all is there.
            self.file.write_all(buffer.padded())
        } else {
            self.file.write_all(bytes)
        };
        let written = match written {
            Err(error) if self.direct && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                // The disk wants it another way. Nothing of this piece has been written.
                self.direct = false;
                set_direct(&self.file, false)
                    .map_err(io::Error::from)
                    .and_then(|()| self.file.write_all(buffer.filled()))
            }
            written => written,
        };
        written.map_err(io_error("writing an upload to", path))
    }

    /// Checks what was written, and flushes it if it is to be durable.
    fn finish(
        self,
        size: u64,
        announced: Digest,
        durability: Durability,
        health: &Health,
    ) -> Result<Temporary, StoreError> {
        check(self.hasher, announced)?;
        let path = &self.temporary.path;
        if self.direct && !size.is_multiple_of(ALIGN as u64) {
            let cut = self.file.set_len(size);
            cut.map_err(io_error("writing the end of an upload to", path))?;
        }
        if matches!(durability, Durability::Fsync) {
            // Here, so that the commit that many wait for finds it done.
            let flushed = self.file.sync_data();
            flushed.map_err(|error| {
                let error = io_error("flushing an upload to", path)(error);
                health.set_broken(&error);
                error
            })?;
        }
        Ok(self.temporary)
    }
}

/// Has a file written past the kernel's cache, or through it. Not every file system can do both.
fn set_direct(file: &File, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
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
