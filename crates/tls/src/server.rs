//! How a server shows who it is, and what it asks of its clients' certificates.

use crate::{TlsError, files, verify::AnyClient};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tokio_rustls::TlsAcceptor;

/// The files by which a server and its clients know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate, with what leads to its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Certificates of those who may sign a client's: then each client has to have one. Without it
    /// a client may show any certificate, or none; who it is, its fingerprint says.
    pub client_ca: Option<PathBuf>,
}

/// What changes when a file is written or replaced.
type Stamp = Option<(SystemTime, u64, u64)>;

impl ServerFiles {
    /// Reads the files.
    pub fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let judge: Arc<dyn ClientCertVerifier> = match &self.client_ca {
            None => Arc::new(AnyClient::new(algorithms)),
            Some(file) => {
                let roots: Arc<RootCertStore> = files::roots(file)?.into();
                let provider = Arc::clone(&provider);
                WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|_| TlsError::NoRoots)?
            }
        };
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(judge)
            .with_single_cert(
                files::certificates(&self.certificate)?,
                files::key(&self.key)?,
            )
            .map_err(|source| TlsError::Bad {
                file: self.key.clone(),
                what: "private key",
                source,
            })
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        let files = files.into_iter().flatten();
        files.map(|file| stamp(file)).collect()
    }
}

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// A server's certificate in use, which may be replaced by another while the server runs.
#[derive(Debug)]
pub struct Identity {
    files: ServerFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
}

impl Identity {
    /// Reads the files.
    pub fn open(files: ServerFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let config = Arc::new(files.config()?);
        Ok(Self {
            files,
            state: Mutex::new(State { config, stamps }),
        })
    }

    /// What the next connection is taken in by.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.state().config).into()
    }

    /// Reads the files again if they have changed; says whether they had. If they make no sense,
    /// such as a new certificate whose key has not been written yet, everything stays as it was,
    /// until they change once more.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        // What changes after this is seen the next time.
        let stamps = self.files.stamps();
        if stamps == self.state().stamps {
            return Ok(false);
        }
        let config = self.files.config();
        let mut state = self.state();
        state.stamps = stamps;
        state.config = Arc::new(config?);
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
