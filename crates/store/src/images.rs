//! The image files: `images/ab/ab…`, and `images/incoming/` for uploads under way.

use crate::{Durability, StoreError, buffer::Buffers, error::io_error, log::Unflushed};
use imgsys_types::Digest;
use rustix::fs::{Advice, AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, DirEntry, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// The directory of image files, held against other processes.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    /// Open for the lock, `syncfs` and `fstatvfs`.
    handle: File,
    incoming: PathBuf,
    next_upload: AtomicU64,
    pub(crate) unflushed: Unflushed,
    pub(crate) durability: Durability,
    /// Whether large files are written past the kernel's cache.
    pub(crate) direct_io: bool,
    pub(crate) buffers: Buffers,
    min_free: u64,
}

/// Opens a directory, made if need be, and locks it against any other opening.
pub(crate) fn lock_dir(dir: &Path) -> Result<File, StoreError> {
    fs::create_dir_all(dir).map_err(io_error("making directory", dir))?;
    let handle = File::open(dir).map_err(io_error("opening directory", dir))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(io_error("locking directory", dir)(source)),
    }
}

/// Flushes the whole file system of an open directory: all new files and directories on it.
pub(crate) fn flush_disk_of(handle: &File, dir: &Path) -> Result<(), StoreError> {
    rustix::fs::syncfs(handle).map_err(|errno| io_error("flushing the disk of", dir)(errno.into()))
}

/// Makes the next reads of a flushed file come from the disk: after a failed flush, what the
/// kernel has cached may be newer than what the disk holds, and pass for flushed.
pub(crate) fn forget_cached(file: &File, path: &Path) -> Result<(), StoreError> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed)
        .map_err(|errno| io_error("reading afresh", path)(errno.into()))
}

/// How many bytes may still be written to the disk of an open directory.
fn room_on_disk_of(handle: &File, dir: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::fstatvfs(handle)
        .map_err(|errno| io_error("reading the free space of", dir)(errno.into()))?;
    // A file system without a size, such as a tmpfs without a limit, has room for anything.
    if disk.f_blocks == 0 {
        return Ok(u64::MAX);
    }
    Ok(disk.f_bavail * disk.f_frsize)
}

impl Images {
    /// Takes the directory, makes what is missing of it and removes what uploads left behind.
    pub(crate) fn open(
        dir: PathBuf,
        durability: Durability,
        direct_io: bool,
        min_free: u64,
    ) -> Result<Self, StoreError> {
        let handle = lock_dir(&dir)?;
        for fan in 0..=u8::MAX {
            let fan = dir.join(format!("{fan:02x}"));
            fs::create_dir_all(&fan).map_err(io_error("making directory", &fan))?;
        }
        let incoming = dir.join("incoming");
        fs::create_dir_all(&incoming).map_err(io_error("making directory", &incoming))?;
        let listed = fs::read_dir(&incoming).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in listed.map_err(io_error("listing", &incoming))? {
            let left = entry.path();
            fs::remove_file(&left).map_err(io_error("removing half an upload", &left))?;
        }
        Ok(Self {
            dir,
            handle,
            incoming,
            next_upload: AtomicU64::new(0),
            unflushed: Unflushed::default(),
            durability,
            direct_io,
            buffers: Buffers::default(),
            min_free,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory's own handle once more.
    pub(crate) fn handle(&self) -> Result<File, StoreError> {
        self.handle
            .try_clone()
            .map_err(io_error("opening directory", &self.dir))
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let fan = name.get(..2).unwrap_or_default();
        self.dir.join(fan).join(&name)
    }

    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        flush_disk_of(&self.handle, &self.dir)
    }

    /// How many bytes uploads may still write.
    pub(crate) fn room(&self) -> Result<u64, StoreError> {
        self.room_beside(&self.handle, &self.dir)
    }

    /// How many bytes may be written to the disk of this directory, with what stays free left out.
    pub(crate) fn room_beside(&self, handle: &File, dir: &Path) -> Result<u64, StoreError> {
        Ok(room_on_disk_of(handle, dir)?.saturating_sub(self.min_free))
    }

    /// All image files, and what else lies among them.
    pub(crate) fn files(
        &self,
    ) -> Result<impl Iterator<Item = Result<DirEntry, StoreError>>, StoreError> {
        let mut fans = Vec::new();
        for fan in 0..=u8::MAX {
            let fan = self.dir.join(format!("{fan:02x}"));
            let entries = fs::read_dir(&fan).map_err(io_error("listing", &fan))?;
            fans.push(entries.map(move |entry| entry.map_err(io_error("listing", &fan))));
        }
        Ok(fans.into_iter().flatten())
    }

    /// Notes that the image was handed in now, as one that is written does.
    pub(crate) fn touch(&self, digest: &Digest) {
        let path = self.path(digest);
        let now = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
        };
        // It only counts for how long the file is kept.
        if let Err(error) = utimensat(CWD, &path, &now, AtFlags::empty()) {
            tracing::warn!(path = %path.display(), %error, "could not note that an image came again");
        }
    }

    /// Whether there is a file of this length at the image's place. Its bytes count only if the
    /// index knows the image.
    pub(crate) fn is_present(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(file) => Ok(file.is_file() && file.len() == size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("looking for image", &path)(error)),
        }
    }

    /// Whether the image's file has this length and the right bytes.
    pub(crate) fn is_intact(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        if !self.is_present(digest, size)? {
            return Ok(false);
        }
        let path = self.path(digest);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut file = File::open(&path).map_err(io_error("opening image", &path))?;
        forget_cached(&file, &path)?;
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(io_error("reading image", &path))?;
            if count == 0 {
                return Ok(digest_of(hasher) == *digest);
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }

    /// Writes an image that nobody is known to have sent, straight to its place and unflushed:
    /// what a crash leaves there counts for nothing, and the next upload writes over it.
    pub(crate) fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.unflushed.mark();
        let path = self.path(digest);
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| {
            remove(&path);
            io_error("writing image", &path)(error)
        })
    }

    /// Moves a whole, flushed upload to the image's place; the move itself is not flushed.
    pub(crate) fn install(&self, digest: &Digest, upload: Temporary) -> Result<(), StoreError> {
        self.unflushed.mark();
        let path = self.path(digest);
        fs::rename(&upload.path, &path).map_err(io_error("moving an upload to", &path))?;
        upload.keep();
        Ok(())
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        remove(&self.path(digest));
    }

    /// A new, empty file for an upload.
    pub(crate) fn new_upload(&self) -> Result<(File, Temporary), StoreError> {
        let number = self.next_upload.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        let file = File::create_new(&path).map_err(io_error("making", &path))?;
        Ok((file, Temporary { path, kept: false }))
    }
}

/// A file of an upload under way, removed unless it becomes an image.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}

/// Removes a file that nothing refers to; one that stays costs room, no more.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a file");
        }
        _ => {}
    }
}

pub(crate) fn digest_of(hasher: Sha256) -> Digest {
    Digest::from_bytes(hasher.finalize().into())
}
