//! Who may do what.
//!
//! A token is a random secret that its holder keeps; the server has only the secret's SHA-256, in a
//! file of its own, with the owner for whom it speaks and what it allows. The file is read again
//! whenever it changes, and whoever is connected by a token that is gone is sent away.
//!
//! Secrets have 256 random bits, so a plain digest can't be reversed by guessing. Digests are compared
//! in constant time.

mod edit;
mod file;

pub(crate) use edit::{Edit, run as edit};
pub(crate) use file::{Key, Scope, Token, TokenFileError};

use file::read;
use imgsys_types::{Digest, Owner, Timestamp};
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often the file is looked at.
const FOLLOW: Duration = Duration::from_secs(1);

/// How often the clock is looked at for a token that is to expire.
const CLOCK: Duration = Duration::from_secs(60);

/// What a connection may do, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) owner: Owner,
    /// The token that says so; `None` where there are no tokens.
    token: Option<Arc<Token>>,
}

/// Why a secret opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "this server wants a token: put it into ~/.config/imgsys/token, or name its file by --token-file"
    )]
    Missing,
    #[error("the token is not known here, or was revoked")]
    Unknown,
    #[error("no token, and a certificate that is not known here: its fingerprint is {0}")]
    Certificate(Digest),
    #[error("the token has expired")]
    Expired,
}

impl Grant {
    /// Whether this is allowed.
    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.token.as_ref().is_none_or(|token| token.allows(scope))
    }

    /// Resolves once the token has expired, if it ever does.
    pub(crate) async fn expired(&self) {
        let Some(expires) = self.token.as_ref().and_then(|token| token.expires) else {
            return std::future::pending().await;
        };
        loop {
            let left = expires.since(Timestamp::now());
            if left.is_zero() {
                return;
            }
            // The clock may be set meanwhile.
            tokio::time::sleep(left.min(CLOCK)).await;
        }
    }

    /// Whether the token is still good.
    pub(crate) fn holds(&self, tokens: &Tokens) -> Result<(), Refused> {
        match &self.token {
            None => Ok(()),
            Some(token) => tokens.find(&token.key).map(drop),
        }
    }
}

/// The tokens of a server.
#[derive(Debug)]
pub(crate) struct Tokens {
    file: Option<PathBuf>,
    table: watch::Sender<Vec<Arc<Token>>>,
}

impl Tokens {
    /// The tokens in this file; without one, everybody is the owner `local` and may do everything.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self, TokenFileError> {
        let table = match &file {
            Some(file) => read(file)?.into_iter().map(Arc::new).collect(),
            None => Vec::new(),
        };
        Ok(Self {
            file,
            table: watch::Sender::new(table),
        })
    }

    /// What the bearer of this secret may do, or, without one, the holder of this certificate.
    pub(crate) fn admit(
        &self,
        secret: Option<&str>,
        certificate: Option<Digest>,
    ) -> Result<Grant, Refused> {
        if self.file.is_none() {
            return Ok(Grant {
                owner: Owner::local(),
                token: None,
            });
        }
        let token = match (secret, certificate) {
            (Some(secret), _) => self.find(&Key::Secret(digest(secret)))?,
            (None, Some(shown)) => {
                let found = self.find(&Key::Certificate(shown));
                found.map_err(|refused| match refused {
                    Refused::Unknown => Refused::Certificate(shown),
                    other => other,
                })?
            }
            (None, None) => return Err(Refused::Missing),
        };
        Ok(Grant {
            owner: token.owner.clone(),
            token: Some(token),
        })
    }

    fn find(&self, key: &Key) -> Result<Arc<Token>, Refused> {
        let table = self.table.borrow();
        // All are compared, so that the time tells nothing of where it matched.
        let mut found = None;
        for token in table.iter() {
            if token.key.is(key) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Refused::Unknown)?;
        if token.expires.is_some_and(|at| at <= Timestamp::now()) {
            return Err(Refused::Expired);
        }
        Ok(Arc::clone(token))
    }

    /// Hears of every change of the tokens.
    pub(crate) fn changes(&self) -> watch::Receiver<Vec<Arc<Token>>> {
        self.table.subscribe()
    }

    /// Reads the file again whenever it has changed, until `shutdown`. A file that can't be read
    /// leaves the tokens as they were: a slip of the pen must not lock everybody out, or in.
    pub(crate) async fn follow(&self, shutdown: CancellationToken) {
        let Some(file) = &self.file else { return };
        let mut seen = stamp(file);
        let mut every = tokio::time::interval(FOLLOW);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let now = stamp(file);
            if now == seen {
                continue;
            }
            seen = now;
            match read(file) {
                Ok(tokens) => {
                    info!("{} tokens are good from now on", tokens.len());
                    let tokens = tokens.into_iter().map(Arc::new).collect();
                    self.table.send_replace(tokens);
                }
                Err(problem) => error!("the tokens stay as they were: {problem}"),
            }
        }
    }
}

/// What changes when a file is written or replaced.
fn stamp(file: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// What the server keeps of a secret.
pub(crate) fn digest(secret: &str) -> Digest {
    Digest::from_bytes(Sha256::digest(secret.as_bytes()).into())
}
