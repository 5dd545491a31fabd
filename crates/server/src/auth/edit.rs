//! `imgsys-server token new | list | revoke`: the file of tokens, edited as a whole.

use super::{
    digest,
    file::{Key, Scope, Token, TokenFile, TokenFileError, read},
};
use crate::shared::chain;
use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use imgsys_types::{Digest, Owner, Timestamp};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

/// What is done to the tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum Edit {
    /// Make a token and print its secret, which is shown only now
    New {
        /// Which device or person has it
        name: String,
        /// For whom it speaks
        #[arg(long)]
        owner: Owner,
        /// What it allows
        #[arg(long, value_delimiter = ',', default_value = "send,history")]
        scopes: Vec<Scope>,
        /// The client's certificate, in PEM, or its SHA-256 in hexadecimal digits: it takes the place
        /// of a secret
        #[arg(long, value_name = "FILE|SHA256", value_parser = parse_certificate)]
        certificate: Option<Digest>,
        /// For how long, such as 90d; for ever if not given
        #[arg(long, value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// List the tokens
    List,
    /// Take a token back: whoever is connected by it is sent away
    Revoke {
        /// The name it was made with
        name: String,
    },
}

/// Does it.
pub(crate) fn run(file: &Path, edit: Edit) -> anyhow::Result<()> {
    let _lock = lock(file)?;
    let mut tokens = match read(file) {
        Ok(tokens) => tokens,
        Err(TokenFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Vec::new()
        }
        Err(problem) => return Err(problem.into()),
    };
    match edit {
        Edit::New {
            name,
            owner,
            scopes,
            certificate,
            expires,
        } => {
            let taken = tokens.iter().any(|token| token.name == name);
            ensure!(
                !taken,
                "there is a token {name:?} already: revoke it first, or name this one otherwise"
            );
            let (key, secret) = if let Some(certificate) = certificate {
                (Key::Certificate(certificate), None)
            } else {
                let secret = secret();
                (Key::Secret(digest(&secret)), Some(secret))
            };
            tokens.push(Token {
                name,
                owner,
                key,
                scopes,
                expires: expires.map(|span| Timestamp::from(SystemTime::now() + span)),
            });
            write(file, tokens)?;
            if let Some(secret) = secret {
                println!("{secret}");
            }
        }
        Edit::List => {
            for token in tokens {
                let scopes: Vec<String> = token.scopes.iter().map(ToString::to_string).collect();
                let expires = token.expires.map_or_else(
                    || "never".to_owned(),
                    |at| humantime::format_rfc3339_seconds(at.into()).to_string(),
                );
                println!(
                    "{:20} {:20} {:24} {expires}",
                    token.name,
                    token.owner,
                    scopes.join(",")
                );
            }
        }
        Edit::Revoke { name } => {
            let before = tokens.len();
            tokens.retain(|token| token.name != name);
            if tokens.len() == before {
                bail!("there is no token {name:?} in {}", file.display());
            }
            write(file, tokens)?;
        }
    }
    Ok(())
}

/// A certificate's fingerprint, given as such or by the certificate's file.
fn parse_certificate(text: &str) -> Result<Digest, String> {
    if let Ok(digest) = text.replace(':', "").parse() {
        return Ok(digest);
    }
    let digest = imgsys_tls::fingerprint_of(Path::new(text)).map_err(|problem| chain(&problem))?;
    Ok(Digest::from_bytes(digest))
}

/// 256 random bits, as text.
fn secret() -> String {
    let bits = [
        uuid::Uuid::new_v4(),
        uuid::Uuid::new_v4(),
        uuid::Uuid::new_v4(),
    ];
    let bits: String = bits.iter().map(|bits| bits.simple().to_string()).collect();
    // Three UUIDs of 122 random bits each, whose fixed bits don't matter in the digest.
    format!("imgsys_{}", hex::encode(digest(&bits).as_bytes()))
}

/// Keeps a second edit out until this one is done.
fn lock(file: &Path) -> anyhow::Result<File> {
    let path = file.with_extension("lock");
    let lock = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    let lock = lock.with_context(|| format!("opening {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(lock)
}

/// Writes the file beside the old one and puts it in its place.
fn write(file: &Path, token: Vec<Token>) -> anyhow::Result<()> {
    let text = toml::to_string(&TokenFile { token }).context("writing the tokens")?;
    let beside = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut new = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o640)
            .open(&beside)?;
        // Whoever may read the old file may read the new one.
        if let Ok(old) = fs::metadata(file) {
            new.set_permissions(fs::Permissions::from_mode(old.permissions().mode()))?;
        }
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    write().with_context(|| format!("writing {}", file.display()))
}
