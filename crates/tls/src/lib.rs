//! TLS as all programs use it: rustls on ring, version 1.2 or later, certificates in PEM files.
//!
//! | module | holds |
//! |---|---|
//! | `client` | how a client judges a server: [`ClientFiles`] |
//! | `advice` | [`advice()`]: what to do about an error of TLS, in words |
//! | `files` | certificates and keys as they are read |
//! | `testing` | a CA for tests, with the feature of that name |

mod advice;
mod client;
mod files;
#[cfg(feature = "testing")]
pub mod testing;

pub use advice::advice;
pub use client::ClientFiles;
pub use files::read;

use std::{io, path::PathBuf};

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("reading {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} has no {what} in PEM", .file.display())]
    Nothing {
        /// The file.
        file: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file holds something that can't be used.
    #[error("using the {what} in {}", .file.display())]
    Bad {
        /// The file.
        file: PathBuf,
        /// What was found.
        what: &'static str,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A certificate without a key, or the reverse.
    #[error("a certificate of our own needs both: the certificate and its key")]
    Half,
    /// The system trusts nobody.
    #[error("this system has no certificates of those it trusts: name a file with the CA's")]
    NoRoots,
    /// The cryptography is not there.
    #[error("preparing TLS")]
    Rustls(#[from] rustls::Error),
}
