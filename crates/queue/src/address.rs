//! The connection string of a Redis: where it is, how to get in, and what its keys are called.
//!
//! Everything is in the one string, so that whoever has it can neither forget the prefix of the
//! keys nor the certificates. What it may say is in docs/queue.md.

use crate::keys::Keys;
use redis::{
    Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// A peer that is silent for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a connection string makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL of a kind that is known.
    #[error(
        "it has to begin with redis://, rediss:// (TLS) or unix:/// and be a URL; special \
         characters of a password are written %XX"
    )]
    Scheme,
    /// It names a Sentinel.
    #[error(
        "Redis Sentinel is not followed: give the address of the primary, or of a proxy or DNS \
         name that leads to it"
    )]
    Sentinel,
    /// It names a Redis Cluster.
    #[error(
        "Redis Cluster is not supported, for Celery's queues and our scripts need all keys in one \
         place: give the address of a Redis outside a cluster"
    )]
    Cluster,
    /// A parameter or fragment that nobody would honour.
    #[error("{given:?} is not known there: {known}")]
    Unknown {
        /// Its name.
        given: String,
        /// What may stand there.
        known: &'static str,
    },
    /// A parameter's value, or another part, makes no sense.
    #[error("its {part} {why}")]
    Part {
        /// Which.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file that it names can't be read.
    #[error("reading {}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The `redis` crate does not take it.
    #[error("it can't be used")]
    Redis(#[from] RedisError),
}

/// A connection string taken apart.
pub(crate) struct Address {
    info: ConnectionInfo,
    keys: Keys,
    tls: Option<TlsCertificates>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold a password.
        f.debug_struct("Address")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// The parameters of a connection string.
#[derive(Default)]
struct Parameters {
    /// What the `redis` crate reads itself.
    passed_on: Vec<(&'static str, String)>,
    key_prefix: String,
    result_key_prefix: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "redis" => "redis",
            "rediss" => "rediss",
            // As Celery calls it.
            "unix" | "redis+unix" | "redis+socket" => "unix",
            "sentinel" | "redis+sentinel" | "redis-sentinel" | "rediss+sentinel" => {
                return Err(AddressError::Sentinel);
            }
            "redis+cluster" | "redis-cluster" | "rediss+cluster" => {
                return Err(AddressError::Cluster);
            }
            _ => return Err(AddressError::Scheme),
        };
        // Celery takes several Sentinels so.
        if rest.contains(';') {
            return Err(AddressError::Sentinel);
        }
        // A password that should have been encoded: no part of it may show in an error.
        if let Some(at) = rest.find(['?', '#'])
            && rest[at..].contains('@')
        {
            return Err(AddressError::Scheme);
        }
        let mut url =
            redis::parse_redis_url(&format!("{scheme}://{rest}")).ok_or(AddressError::Scheme)?;
        if let Some(fragment) = url.fragment() {
            return Err(AddressError::Unknown {
                given: format!("#{fragment}"),
                known: "a certificate is always checked; one that is not public is trusted by \
                        ca=FILE",
            });
        }
        let mut parameters = Parameters::default();
        for (name, value) in url.query_pairs() {
            parameters.take(scheme, &name, &value)?;
        }
        url.set_query(None);
        for (name, value) in &parameters.passed_on {
            url.query_pairs_mut().append_pair(name, value);
        }
        let info = url.into_connection_info()?.set_tcp_settings(tcp());
        let db = info.redis_settings().db();
        if db < 0 {
            return Err(AddressError::Part {
                part: "database",
                why: "is a number from 0",
            });
        }
        Ok(Self {
            info,
            keys: parameters.keys(db),
            tls: parameters.tls()?,
        })
    }

    /// What things are called there.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A client for it, which does not connect yet.
    pub(crate) fn client(&self) -> Result<Client, AddressError> {
        let info = self.info.clone();
        Ok(match &self.tls {
            Some(tls) => Client::build_with_tls(info, tls.clone())?,
            None => Client::open(info)?,
        })
    }
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3)
        .with_retries(3);
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(KEEPALIVE * 2)
}

impl Parameters {
    fn take(&mut self, scheme: &str, name: &str, value: &str) -> Result<(), AddressError> {
        let file = || Some(PathBuf::from(value));
        match (scheme, name) {
            (_, "key_prefix") => value.clone_into(&mut self.key_prefix),
            (_, "result_key_prefix") => self.result_key_prefix = Some(value.to_owned()),
            ("unix", "db" | "virtual_host") => self.passed_on.push(("db", value.to_owned())),
            ("unix", "user") => self.passed_on.push(("user", value.to_owned())),
            ("unix", "pass") => self.passed_on.push(("pass", value.to_owned())),
            ("rediss", "ca") => self.ca = file(),
            ("rediss", "certificate") => self.certificate = file(),
            ("rediss", "key") => self.key = file(),
            _ => {
                return Err(AddressError::Unknown {
                    given: name.to_owned(),
                    known: match scheme {
                        "rediss" => {
                            "rediss:// has ca, certificate, key, key_prefix, result_key_prefix"
                        }
                        "unix" => "unix:// has db, user, pass, key_prefix, result_key_prefix",
                        _ => "redis:// has key_prefix, result_key_prefix; TLS is rediss://",
                    },
                });
            }
        }
        Ok(())
    }

    fn keys(&self, db: i64) -> Keys {
        let prefix = &self.key_prefix;
        let results = self.result_key_prefix.as_ref().unwrap_or(prefix);
        // As Celery's result backend does.
        let joint = match results.chars().last() {
            None | Some(':' | '_' | '-' | '.') => "",
            Some(_) => "_",
        };
        Keys::new(db, prefix, &format!("{results}{joint}"))
    }

    /// The certificates, if there are any to be read.
    fn tls(&self) -> Result<Option<TlsCertificates>, AddressError> {
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(certificate)?,
                client_key: read(key)?,
            }),
            (None, None) => None,
            _ => {
                return Err(AddressError::Part {
                    part: "client certificate",
                    why: "needs both a certificate and a key",
                });
            }
        };
        let root_cert = self.ca.as_deref().map(read).transpose()?;
        let any = client_tls.is_some() || root_cert.is_some();
        Ok(any.then_some(TlsCertificates {
            client_tls,
            root_cert,
        }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, AddressError> {
    std::fs::read(file).map_err(|source| AddressError::File {
        file: file.to_owned(),
        source,
    })
}
