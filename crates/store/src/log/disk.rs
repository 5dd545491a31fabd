//! The files of the log, and what is flushed.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
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

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// The directory of the log's segments, and the disk of the images: all that a commit flushes.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// The numbers of the segments that are there, in any order.
    fn segments(&self) -> io::Result<Vec<u32>>;
    /// A segment, made if need be.
    fn open(&self, segment: u32) -> io::Result<Arc<dyn SegmentFile>>;
    fn remove(&self, segment: u32) -> io::Result<()>;
    /// Where the segment is, to tell it.
    fn path(&self, segment: u32) -> PathBuf;
    /// Flushes which segments there are.
    fn flush_entries(&self) -> io::Result<()>;
    /// Flushes the file system of the images.
    fn flush_images(&self) -> io::Result<()>;
}

/// The file of a segment.
pub(crate) trait SegmentFile: fmt::Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Reads what there is from this place on, and says how much.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to this length.
    fn cut(&self, len: u64) -> io::Result<()>;
    /// Takes the room up to this length, which reads as zeros, so that the flushes to come need not
    /// write where the file ends too.
    fn reserve(&self, len: u64) -> io::Result<()>;
    fn flush(&self) -> io::Result<()>;
    /// Makes the next reads of what is flushed come from the disk.
    fn forget_cached(&self) -> io::Result<()>;
}

/// A directory of a file system.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) handle: File,
    pub(crate) images: File,
}

const ENDING: &str = ".log";

impl Disk for Directory {
    fn segments(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            found.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        Ok(found)
    }

    fn open(&self, segment: u32) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(options.open(self.path(segment))?))
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        fs::remove_file(self.path(segment))
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.path.join(format!("{segment:010}{ENDING}"))
    }

    fn flush_entries(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn flush_images(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.images)?)
    }
}

impl SegmentFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        Ok(rustix::fs::fallocate(self, flags, 0, len)?)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        let advice = rustix::fs::Advice::DontNeed;
        Ok(rustix::fs::fadvise(self, 0, None, advice)?)
    }
}
