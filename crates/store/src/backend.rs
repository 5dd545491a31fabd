//! The file under the spool's database, and what its flush flushes.

use crate::Durability;
use redb::{BackendError, StorageBackend};
use std::{
    fs::File,
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether image files were written or renamed since the last flush.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unflushed(Arc<AtomicBool>);

impl Unflushed {
    pub(crate) fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// A database file whose flush covers the image files too: a commit is the one flush of its
/// batch.
#[derive(Debug)]
pub(crate) struct SpoolFile<B> {
    pub(crate) file: B,
    pub(crate) images_dir: File,
    pub(crate) unflushed: Unflushed,
    pub(crate) durability: Durability,
}

impl<B: StorageBackend> StorageBackend for SpoolFile<B> {
    fn sync_data(&self) -> io::Result<()> {
        if matches!(self.durability, Durability::None) {
            return Ok(());
        }
        if self.unflushed.take() {
            rustix::fs::syncfs(&self.images_dir)?;
        }
        // The spool may be on another file system than the images; and where it is not, not
        // every file system's `syncfs` promises to empty the disk's own cache. It costs nothing
        // measurable when nothing is left to write.
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
