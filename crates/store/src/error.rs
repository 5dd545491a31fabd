//! What can go wrong on the server's disk.

use imgsys_types::{Digest, JobId};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No room on the disk, or none within the quota; try again once there is some.
    #[error("{doing} {}: the disk is full", path.display())]
    Full {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
    },
    /// The image's SHA-256 is not the job's.
    #[error("the image's digest is {found}, not {announced}")]
    DigestMismatch {
        /// What the job says.
        announced: Digest,
        /// What the bytes say.
        found: Digest,
    },
    /// The image's length is not the job's.
    #[error("the image has {found} bytes, not {announced}")]
    SizeMismatch {
        /// What the job says, in bytes.
        announced: u64,
        /// How many bytes came.
        found: u64,
    },
    /// Another process (or another [`Store`](crate::Store) of this one) has the directory.
    #[error("{} is in use by another server", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A flush has failed earlier. What is on disk is uncertain until the store is opened again,
    /// so nothing more is accepted.
    #[error("a flush to disk has failed; the server must be restarted")]
    Broken,
    /// A file or directory could not be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The spool's database failed.
    #[error("{doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's reason.
        #[source]
        source: Box<redb::Error>,
    },
    /// A spool record can't be decoded.
    #[error("reading spool record {job}: {reason}")]
    Corrupt {
        /// The record's job.
        job: JobId,
        /// What is wrong with it.
        reason: String,
    },
    /// The spool's log is damaged, or a part of it is missing: not at its end, where a power cut may
    /// leave half a write, but in what was flushed.
    #[error("the spool's log is corrupt: {} at {offset}: {reason}", path.display())]
    CorruptLog {
        /// The segment.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A part of the database other than a record makes no sense.
    #[error("the spool's {what} is corrupt")]
    CorruptSpool {
        /// Which part.
        what: &'static str,
    },
}

const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Says what was being done to which path when the system refused.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        if is_full(source.kind()) {
            StoreError::Full { doing, path }
        } else {
            StoreError::Io {
                doing,
                path,
                source,
            }
        }
    }
}

/// Says what was being done when the database refused.
pub(crate) fn database<E: Into<redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Database {
        doing,
        source: Box::new(source.into()),
    }
}
