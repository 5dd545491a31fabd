//! How a client judges a server, and shows who it is itself.

use crate::{TlsError, files, verify::Judge};
use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
};
use std::{path::PathBuf, sync::Arc};

/// What a client asks of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// To be signed by somebody who is trusted, and for the name to which the client connects.
    #[default]
    Full,
    /// To be signed by somebody who is trusted, for whatever name.
    Signer,
    /// To be exactly the one with this SHA-256; names, dates and signers don't count.
    Pin([u8; 32]),
    /// Nothing: whoever is in between can read and change all. Keeps out only those who listen.
    Nothing,
}

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
    /// Reads the files that are needed.
    pub fn config(&self, check: Check) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let algorithms = provider.signature_verification_algorithms;
        let judge = match check {
            Check::Full => None,
            Check::Signer => Some(Judge::any_name(self.usual(&provider)?, algorithms)),
            Check::Pin(fingerprint) => Some(Judge::pinned(fingerprint, algorithms)),
            Check::Nothing => Some(Judge::anyone(algorithms)),
        };
        let builder = match judge {
            None => builder.with_root_certificates(self.roots()?),
            Some(judge) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(judge)),
        };
        match (&self.certificate, &self.key) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(files::certificates(certificate)?, files::key(key)?)
                .map_err(|source| TlsError::Bad {
                    file: key.clone(),
                    what: "private key",
                    source,
                }),
            _ => Err(TlsError::Half),
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        match &self.ca {
            Some(file) => files::roots(file),
            None => files::system_roots(),
        }
    }

    fn usual(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        let roots = Arc::new(self.roots()?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|_| TlsError::NoRoots)
    }
}
