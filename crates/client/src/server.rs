//! The server to talk to: where it is, how it is known, and as whom.

use crate::{
    cli::Global,
    error::{ClientError, chain},
    token::Token,
};
use imgsys_tls::{
    Check, ClientFiles, TlsError,
    stream::{self, Connector, ReadHalf, WriteHalf},
};
use imgsys_types::Digest;
use std::{fmt, io, str::FromStr};
use tokio::net::TcpStream;

/// The port of a server, where none is given.
const PORT: u16 = 7450;
/// The server, where none is given.
pub(crate) const DEFAULT_SERVER: &str = "127.0.0.1:7450";

/// What goes before the host's name for TLS.
const TLS: &str = "tls://";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    tls: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = String;

    /// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`, with `tls://` before it or without.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "an address is HOST or HOST:PORT, such as {DEFAULT_SERVER} or [::1]:7450, or the same with \
                 {TLS} before it"
            )
        };
        let (tls, text) = match text.strip_prefix(TLS) {
            Some(rest) => (true, rest.trim_end_matches('/')),
            None => (false, text),
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse::<u16>().map_err(|_| wrong())?)
            }
            _ if text.contains(':') && !text.ends_with(']') => return Err(wrong()),
            _ => (text, PORT),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(is_host) {
            return Err(wrong());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { TLS } else { "" };
        write!(f, "{scheme}{}:{}", self.host, self.port)
    }
}

impl Address {
    /// The host's name or address as a certificate has it.
    fn bare_host(&self) -> &str {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        // The interface of a link-local address is this machine's own business.
        host.split('%').next().unwrap_or(host)
    }
}

/// A fingerprint as people write it: with colons or without.
pub(crate) fn parse_fingerprint(text: &str) -> Result<Digest, &'static str> {
    text.replace(':', "").parse().map_err(|_| {
        "a fingerprint is a SHA-256 of 64 hexadecimal digits: `openssl x509 -in FILE -noout -fingerprint \
         -sha256` shows it"
    })
}

/// The server to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Where it is, for people.
    pub(crate) address: String,
    /// What says who the user is.
    pub(crate) token: Option<Token>,
    host_and_port: String,
    tls: Option<Connector>,
}

impl Server {
    /// The server that the options say.
    pub(crate) fn new(global: &Global) -> Result<Self, ClientError> {
        let Address { tls, host, port } = &global.server;
        let files = ClientFiles {
            ca: global.ca.clone(),
            certificate: global.certificate.clone(),
            key: global.key.clone(),
        };
        if !tls && (files != ClientFiles::default() || global.fingerprint.is_some()) {
            let text = "--ca, --fingerprint, --certificate and --key are for TLS: write --server tls://HOST";
            return Err(ClientError::Usage(text.into()));
        }
        let check = match global.fingerprint {
            Some(fingerprint) => Check::Pin(*fingerprint.as_bytes()),
            None => Check::Full,
        };
        let wrong = |problem: TlsError| ClientError::Usage(chain(&problem));
        let connector = || Connector::new(&files, check, global.server.bare_host());
        Ok(Self {
            address: global.server.to_string(),
            token: Token::find(global.token_file.as_deref())?,
            host_and_port: format!("{host}:{port}"),
            tls: tls.then(connector).transpose().map_err(wrong)?,
        })
    }

    /// Connects over TCP.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(&self.host_and_port).await
    }

    /// Makes what frames go over of a connection: over TLS, or as it is.
    pub(crate) async fn secure(&self, stream: TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
        match &self.tls {
            Some(tls) => tls.connect(stream).await,
            None => Ok(stream::plain(stream)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_port() {
        for (text, address) in [
            ("images", "images:7450"),
            ("images:1", "images:1"),
            ("10.0.0.1", "10.0.0.1:7450"),
            ("[::1]", "[::1]:7450"),
            ("[::1]:99", "[::1]:99"),
            ("tls://images", "tls://images:7450"),
            ("tls://[::1]:99/", "tls://[::1]:99"),
        ] {
            let parsed = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), Ok(address), "{text}");
        }
        for text in [
            "",
            ":1",
            "a:",
            "a:b",
            "a:0",
            "a:65536",
            "::1",
            "a b",
            "http://a",
            "a/b:1",
            "tls://",
            "tls:a",
            "tls://a/b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn certificates_are_for_hosts_without_brackets() {
        for (text, host) in [
            ("tls://images:1", "images"),
            ("tls://[::1]", "::1"),
            ("tls://[fe80::1%eth0]:1", "fe80::1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().bare_host(), host);
        }
    }

    #[test]
    fn fingerprints_are_read_as_openssl_writes_them() {
        let colons = ["AB"; 32].join(":");
        assert_eq!(
            parse_fingerprint(&colons),
            parse_fingerprint(&"ab".repeat(32))
        );
        assert!(parse_fingerprint("ab").is_err());
    }
}
