//! How a client judges a server, and shows who it is itself.

use crate::{TlsError, files};
use rustls::{ClientConfig, crypto::ring};
use std::{path::PathBuf, sync::Arc};

/// The files by which a client and a server know each other. Without any, the system's roots say
/// who is trusted, and the client has no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificates of those who may sign the server's, instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, with what leads to its root.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
}

impl ClientFiles {
    /// Reads the files.
    pub fn config(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca {
            Some(file) => files::roots(file)?,
            None => files::system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(config.with_no_client_auth()),
            (Some(certificate), Some(key)) => config
                .with_client_auth_cert(files::certificates(certificate)?, files::key(key)?)
                .map_err(|source| TlsError::Bad {
                    file: key.clone(),
                    what: "private key",
                    source,
                }),
            _ => Err(TlsError::Half),
        }
    }
}
