//! The connection string of a Redis: where it is, how to get in, and what its keys are called.
//!
//! Everything is in the one string, so that whoever has it can neither forget the prefix of the
//! keys nor the certificates. What it may say is in docs/queue.md.

use crate::keys::Keys;
use imgsys_tls::{Check, ClientFiles, TlsError};
use redis::{
    Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use std::{fmt, path::PathBuf, time::Duration};

/// A peer that is silent for so long is asked whether it is still there; one whose machine says
/// nothing for so long to what it was sent is gone. A Redis that is merely busy is neither.
const KEEPALIVE: Duration = Duration::from_secs(5);

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
    /// A file of certificates that it names can't be used.
    #[error("its certificates can't be used")]
    Tls(#[from] TlsError),
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
    tls: ClientFiles,
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
        // Its name would be one more command for which a user needs permission.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let db = settings.db();
        let info = info.set_redis_settings(settings);
        if db < 0 {
            return Err(AddressError::Part {
                part: "database",
                why: "is a number from 0",
            });
        }
        Ok(Self {
            info,
            keys: parameters.keys(db),
            tls: parameters.certificates(scheme)?,
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
        .set_user_timeout(KEEPALIVE)
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
            ("rediss", "ca") => self.tls.ca = file(),
            ("rediss", "certificate") => self.tls.certificate = file(),
            ("rediss", "key") => self.tls.key = file(),
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

    /// The certificates for TLS, if that is what the scheme says.
    fn certificates(&self, scheme: &str) -> Result<Option<TlsCertificates>, TlsError> {
        if scheme != "rediss" {
            return Ok(None);
        }
        // The crate would take a file without certificates, and trust nobody.
        self.tls.config(Check::Full)?;
        let client_tls = match (&self.tls.certificate, &self.tls.key) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: imgsys_tls::read(certificate)?,
                client_key: imgsys_tls::read(key)?,
            }),
            _ => None,
        };
        let root_cert = self.tls.ca.as_deref().map(imgsys_tls::read).transpose()?;
        Ok(Some(TlsCertificates {
            client_tls,
            root_cert,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        let error = Address::parse(url).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    #[test]
    fn sockets_are_written_as_celery_writes_them_too() {
        for url in [
            "unix:///run/redis?db=2&pass=a%40b",
            "redis+socket:///run/redis?virtual_host=2&pass=a%40b",
            "redis+unix:///run/redis?pass=a%40b&db=2",
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.keys().db(), 2);
            assert_eq!(address.info.redis_settings().password(), Some("a@b"));
            assert_eq!(address.info.addr().to_string(), "/run/redis");
        }
    }

    #[test]
    fn results_have_celerys_joint() {
        let result = |url| Address::parse(url).unwrap().keys().task_result("x");
        assert_eq!(result("redis://h"), "celery-task-meta-x");
        assert_eq!(result("redis://h?key_prefix=a:"), "a:celery-task-meta-x");
        assert_eq!(result("redis://h?key_prefix=a"), "a_celery-task-meta-x");
        let both = "redis://h?key_prefix=a&result_key_prefix=";
        assert_eq!(result(both), "celery-task-meta-x");
    }

    #[test]
    fn what_nobody_would_honour_is_refused_and_no_password_shown() {
        for (url, said) in [
            ("localhost:6379", "redis://"),
            ("http://localhost", "redis://"),
            ("sentinel://a:26379;sentinel://b:26379", "Sentinel"),
            ("redis+sentinel://a/mymaster/0", "Sentinel"),
            ("redis-cluster://a:6379", "Cluster"),
            ("redis://h/one", "Invalid database number"),
            ("redis://h/-1", "its database is a number from 0"),
            (
                "redis://h?ssl_cert_reqs=none",
                "\"ssl_cert_reqs\" is not known",
            ),
            ("redis://h?ca=/x", "TLS is rediss://"),
            ("rediss://h#insecure", "a certificate is always checked"),
            ("redis://:hunter?2@h", "special characters"),
            ("redis://:hunter#2@h", "special characters"),
            ("redis://:hunter/2@h", "special characters"),
        ] {
            let error = refused(url);
            assert!(error.contains(said), "{url}: {error}");
            assert!(
                !error.contains("hunter") && !error.contains("2@"),
                "{error}"
            );
        }
        let half = refused("rediss://h?ca=/etc/passwd&certificate=/x");
        assert!(half.contains("/etc/passwd has no certificate"), "{half}");
    }
}
