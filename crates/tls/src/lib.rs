//! TLS as all programs use it: rustls on ring, version 1.2 or later, certificates in PEM files.
//!
//! | module | holds |
//! |---|---|
//! | `client` | how a client judges a server: [`ClientFiles`] |
//! | `server` | what a server shows, read again when it changes: [`Identity`] |
//! | [`stream`] | the halves of a connection, encrypted or not |
//! | `verify` | other ways to judge: any name, a pinned certificate |
//! | `advice` | [`advice()`]: what to do about an error of TLS, in words |
//! | `files` | certificates and keys as they are read |
//! | `testing` | a CA for tests, with the feature of that name |

mod advice;
mod client;
mod files;
mod server;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;

pub use advice::advice;
pub use client::{Check, ClientFiles};
pub use files::{fingerprint_of, read};
pub use server::{Identity, ServerFiles};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{io, path::PathBuf};

/// A certificate's fingerprint: the SHA-256 of it in DER.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

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
    /// A host's name that no certificate can be for.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
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
