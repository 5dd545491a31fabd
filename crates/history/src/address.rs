//! The connection string of a PostgreSQL, with what libpq's says of TLS and the `tokio-postgres`
//! crate's does not: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.

use crate::connection::limited;
use imgsys_tls::{Check, ClientFiles, TlsError};
use std::fmt::Write as _;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Why a connection string makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is neither a URL nor pairs, or has a key that is not known.
    #[error("it can't be read")]
    Syntax(#[from] tokio_postgres::Error),
    /// `sslmode` is none that is known.
    #[error("sslmode is disable, prefer, require, verify-ca or verify-full, not {0:?}")]
    Mode(String),
    /// It names certificates and says that TLS is not to be used.
    #[error("sslmode is disable, but certificates are given")]
    Disabled,
    /// A file of certificates that it names can't be used.
    #[error("its certificates can't be used")]
    Tls(#[from] TlsError),
}

/// A connection string taken apart.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl Address {
    /// Reads the string and the certificates that it names.
    pub(crate) fn parse(text: &str, program: &str) -> Result<Self, AddressError> {
        let (rest, words) = Words::take(text);
        let mut config: Config = rest.parse()?;
        limited(&mut config, program);
        let files = ClientFiles {
            ca: words.ca.map(Into::into),
            certificate: words.certificate.map(Into::into),
            key: words.key.map(Into::into),
        };
        let with_files = files != ClientFiles::default();
        let mode = words.mode.as_deref().unwrap_or(match &files.ca {
            Some(_) => "verify-full",
            None => "prefer",
        });
        // As libpq has it: without a CA the first two keep out only those who listen.
        let unchecked = match files.ca {
            Some(_) => Check::Signer,
            None => Check::Nothing,
        };
        let (ssl, check) = match mode {
            "disable" if with_files => return Err(AddressError::Disabled),
            "disable" => (SslMode::Disable, Check::Nothing),
            "prefer" => (SslMode::Prefer, unchecked),
            "require" => (SslMode::Require, unchecked),
            "verify-ca" => (SslMode::Require, Check::Signer),
            "verify-full" => (SslMode::Require, Check::Full),
            other => return Err(AddressError::Mode(other.to_owned())),
        };
        let tls = MakeRustlsConnect::new(files.config(check)?);
        // PostgreSQL never encrypts on a socket.
        let by_socket = |host: &Host| matches!(host, Host::Unix(_));
        let sockets = !config.get_hosts().is_empty() && config.get_hosts().iter().all(by_socket);
        config.ssl_mode(if sockets { SslMode::Disable } else { ssl });
        Ok(Self { config, tls })
    }
}

/// What a connection string says of TLS.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    mode: Option<String>,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Words {
    /// Takes the words out of a connection string; gives the rest of it.
    fn take(text: &str) -> (String, Self) {
        let mut words = Self::default();
        let url = ["postgres://", "postgresql://"];
        let rest = if url.iter().any(|scheme| text.starts_with(scheme)) {
            words.take_from_url(text)
        } else {
            words.take_from_pairs(text)
        };
        (rest, words)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "sslmode" => Some(&mut self.mode),
            "sslrootcert" => Some(&mut self.ca),
            "sslcert" => Some(&mut self.certificate),
            "sslkey" => Some(&mut self.key),
            _ => None,
        }
    }

    fn take_from_url(&mut self, text: &str) -> String {
        let Some((before, query)) = text.split_once('?') else {
            return text.to_owned();
        };
        let mut rest = before.to_owned();
        let mut joint = '?';
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let Some(place) = self.place(name) {
                *place = Some(unescaped(value));
            } else {
                rest.push(joint);
                rest.push_str(pair);
                joint = '&';
            }
        }
        rest
    }

    fn take_from_pairs(&mut self, text: &str) -> String {
        let mut rest = String::new();
        let mut left = text.trim_start();
        while let Some((name, value, after)) = pair(left) {
            if let Some(place) = self.place(name) {
                *place = Some(value);
            } else {
                // As it was written, for it may be wrong in a way that is to be told.
                let _ = write!(rest, "{} ", left[..left.len() - after.len()].trim_end());
            }
            left = after.trim_start();
        }
        rest.push_str(left);
        rest
    }
}

/// The first pair of such a string: its name, its value, and what follows.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let rest = rest.trim_start();
    let quoted = rest.starts_with('\'');
    let mut value = String::new();
    let mut letters = rest.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return Some((name.trim(), value, &rest[at + 1..])),
            letter if !quoted && letter.is_whitespace() => {
                return Some((name.trim(), value, &rest[at..]));
            }
            letter => value.push(letter),
        }
    }
    (!quoted).then_some((name.trim(), value, ""))
}

/// The text that was percent-encoded, or the text itself if it was not.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        let code = rest.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = &rest[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_from_urls_and_pairs() {
        let words = Words {
            mode: Some("verify-full".into()),
            ca: Some("/a b/ca's.pem".into()),
            ..Words::default()
        };
        for (text, rest) in [
            (
                "postgres://me@h/db?sslmode=verify-full&connect_timeout=2&sslrootcert=%2Fa%20b/ca's.pem",
                "postgres://me@h/db?connect_timeout=2",
            ),
            (
                r"host=h sslmode = verify-full user='it\'s me' sslrootcert='/a b/ca\'s.pem' dbname=db",
                r"host=h user='it\'s me' dbname=db ",
            ),
        ] {
            let (left, taken) = Words::take(text);
            assert_eq!((left.as_str(), &taken), (rest, &words));
            left.parse::<Config>().unwrap();
        }
        for text in ["postgres://me@h/db", "", "host", "host='x", "="] {
            let (left, taken) = Words::take(text);
            assert_eq!((left.trim(), taken), (text, Words::default()));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |text: &str| match Address::parse(text, "t") {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        };
        assert!(refused("host=h sslmode=allow").contains("verify-full, not \"allow\""));
        assert!(refused("host=h sslmode=disable sslrootcert=/x").contains("disable, but"));
        assert!(refused("host=h sslcert=/x").contains("certificates can't be used"));
    }

    #[test]
    fn socket_is_never_encrypted() {
        let mode = |text: &str| Address::parse(text, "t").unwrap().config.get_ssl_mode();
        assert_eq!(mode("host=/run/pg sslmode=require"), SslMode::Disable);
        assert_eq!(mode("host=h sslmode=require"), SslMode::Require);
        assert_eq!(mode("host=h,/run/pg"), SslMode::Prefer);
    }
}
