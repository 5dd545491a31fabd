//! A disk that remembers what was written to it between which flushes, so that a test can ask what
//! a power cut at any moment may leave.
//!
//! The spool's database writes to memory. Image files are real ones; what they were is noted at each
//! flush. Until a flush has ended, each write may have reached the disk or not, whole or in part, in
//! any order, whichever of the two it is of.

use redb::{BackendError, StorageBackend};
use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

/// One thing that the database did to its file.
#[derive(Debug, Clone)]
pub(super) enum Written {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Written {
    /// Does it to a file, or its first `bytes` only.
    pub(super) fn apply(&self, file: &mut Vec<u8>, bytes: usize) {
        match self {
            Self::Length(length) => file.resize(usize::try_from(*length).unwrap(), 0),
            Self::Bytes(offset, data) => {
                let data = &data[..bytes.min(data.len())];
                let start = usize::try_from(*offset).unwrap();
                let end = start + data.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[start..end].copy_from_slice(data);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(_, data) => data.len(),
            Self::Length(_) => 1,
        }
    }
}

/// An image's file: what is in it, and what tells it from another of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageFile {
    pub(super) bytes: Vec<u8>,
    made: Option<SystemTime>,
}

/// The image files by their names.
pub(super) type ImageFiles = BTreeMap<String, ImageFile>;

/// What was there when a flush ended, and what was done until the next one began.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) spool: Vec<u8>,
    pub(super) images: ImageFiles,
    pub(super) written: Vec<Written>,
    /// The image files as they were when the next flush began.
    pub(super) images_then: ImageFiles,
}

#[derive(Debug, Default)]
struct Disk {
    /// As the running system sees it.
    spool: Vec<u8>,
    past: Vec<Interval>,
    /// As of the last flush.
    flushed: (Vec<u8>, ImageFiles),
    written: Vec<Written>,
}

/// A disk in use. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    images_dir: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

impl Recorder {
    /// A disk with this spool on it, whose images are in that directory.
    pub(super) fn new(images_dir: &Path, spool: Vec<u8>) -> Self {
        let disk = Disk {
            flushed: (spool.clone(), files(images_dir)),
            spool,
            ..Disk::default()
        };
        Self {
            images_dir: images_dir.into(),
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// The moment: how many flushes have ended, and how much was written since.
    pub(super) fn now(&self) -> (usize, usize) {
        let disk = self.disk();
        (disk.past.len(), disk.written.len())
    }

    /// All that was done, the last interval being the one after the last flush.
    pub(super) fn past(&self) -> Vec<Interval> {
        self.end_interval();
        std::mem::take(&mut self.disk().past)
    }

    fn end_interval(&self) {
        let images_then = files(&self.images_dir);
        let disk = &mut *self.disk();
        let flushed = (disk.spool.clone(), images_then.clone());
        let (spool, images) = std::mem::replace(&mut disk.flushed, flushed);
        disk.past.push(Interval {
            spool,
            images,
            written: std::mem::take(&mut disk.written),
            images_then,
        });
    }

    fn write_down(&self, written: Written) {
        let disk = &mut *self.disk();
        written.apply(&mut disk.spool, written.len());
        disk.written.push(written);
    }
}

impl StorageBackend for Recorder {
    fn sync_data(&self) -> io::Result<()> {
        self.end_interval();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().spool.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let disk = self.disk();
        let found = disk.spool.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_down(Written::Length(len));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_down(Written::Bytes(offset, data.into()));
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

/// The image files under a store's directory.
pub(super) fn files(images_dir: &Path) -> ImageFiles {
    let mut found = BTreeMap::new();
    for fan in fs::read_dir(images_dir).into_iter().flatten() {
        let fan = fan.unwrap();
        if fan.file_name() == "incoming" {
            continue;
        }
        for file in fs::read_dir(fan.path()).unwrap() {
            let file = file.unwrap();
            let image = ImageFile {
                bytes: fs::read(file.path()).unwrap(),
                made: file.metadata().unwrap().created().ok(),
            };
            found.insert(file.file_name().into_string().unwrap(), image);
        }
    }
    found
}
