//! Certificates and keys in PEM files.

use crate::TlsError;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::path::Path;

/// Reads a file of certificates or keys.
pub fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read {
        file: file.to_owned(),
        source,
    })
}

/// All certificates of a file: at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(TlsError::Nothing {
            file: file.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

/// The fingerprint of the first certificate of a file.
pub fn fingerprint_of(file: &Path) -> Result<[u8; 32], TlsError> {
    let found = certificates(file)?;
    found
        .first()
        .map(crate::fingerprint)
        .ok_or_else(|| TlsError::Nothing {
            file: file.to_owned(),
            what: "certificate",
        })
}

/// The private key of a file.
pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| TlsError::Nothing {
        file: file.to_owned(),
        what: "private key",
    })
}

/// Those who are trusted: the certificates of a file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|source| TlsError::Bad {
            file: file.to_owned(),
            what: "certificate",
            source,
        })?;
    }
    Ok(roots)
}

/// Those whom the system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}
