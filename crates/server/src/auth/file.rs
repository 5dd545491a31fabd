//! The file of tokens.

use imgsys_types::{Digest, Owner, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq;

/// Something that a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To send images, wait for their results and cancel them; with `history` to delete them, too.
    Send,
    /// To see the history and get images.
    History,
    /// To see and do all, whoever's it is.
    Admin,
    /// To fetch images for analysis.
    Worker,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Send => "send",
            Self::History => "history",
            Self::Admin => "admin",
            Self::Worker => "worker",
        })
    }
}

/// What shows that somebody has a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A secret with this SHA-256.
    Secret(Digest),
    /// The key of the certificate with this SHA-256.
    Certificate(Digest),
}

impl Key {
    /// Whether both are the same, in constant time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = |one: &Digest, other: &Digest| one.as_bytes().ct_eq(other.as_bytes()).into();
        match (self, other) {
            (Self::Secret(one), Self::Secret(other))
            | (Self::Certificate(one), Self::Certificate(other)) => same(one, other),
            _ => false,
        }
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct Token {
    /// For people: which device or person has it.
    pub(crate) name: String,
    /// For whom it speaks.
    pub(crate) owner: Owner,
    /// What shows that somebody has it.
    pub(crate) key: Key,
    /// What it allows.
    pub(crate) scopes: Vec<Scope>,
    /// When it ends to do so.
    pub(crate) expires: Option<Timestamp>,
}

/// A token as it is written: with one of the two keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    owner: Owner,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Digest>,
    scopes: Vec<Scope>,
    #[serde(default, with = "rfc3339", skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

impl TryFrom<Written> for Token {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let key = match (written.sha256, written.certificate) {
            (Some(sha256), None) => Key::Secret(sha256),
            (None, Some(certificate)) => Key::Certificate(certificate),
            _ => return Err("a token has either sha256, that of its secret, or certificate"),
        };
        Ok(Self {
            name: written.name,
            owner: written.owner,
            key,
            scopes: written.scopes,
            expires: written.expires,
        })
    }
}

impl From<Token> for Written {
    fn from(token: Token) -> Self {
        let (sha256, certificate) = match token.key {
            Key::Secret(sha256) => (Some(sha256), None),
            Key::Certificate(certificate) => (None, Some(certificate)),
        };
        Self {
            name: token.name,
            owner: token.owner,
            sha256,
            certificate,
            scopes: token.scopes,
            expires: token.expires,
        }
    }
}

impl Token {
    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// The file as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenFile {
    #[serde(default)]
    pub(crate) token: Vec<Token>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    #[error("{}: can't be {doing}: {source}", .file.display())]
    Io {
        file: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    #[error("{}: {message}", .file.display())]
    Syntax { file: PathBuf, message: String },
}

/// Reads the file.
pub(crate) fn read(file: &Path) -> Result<Vec<Token>, TokenFileError> {
    let text = std::fs::read_to_string(file).map_err(|source| TokenFileError::Io {
        file: file.to_owned(),
        doing: "read",
        source,
    })?;
    let parsed: TokenFile = toml::from_str(&text).map_err(|error| TokenFileError::Syntax {
        file: file.to_owned(),
        message: error.message().replace('\n', " "),
    })?;
    Ok(parsed.token)
}

/// Times as TOML writes them.
mod rfc3339 {
    use imgsys_types::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use std::time::SystemTime;
    use toml::value::Datetime;

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = time.map(|time| humantime::format_rfc3339_seconds(SystemTime::from(time)));
        let time = text.and_then(|text| text.to_string().parse::<Datetime>().ok());
        time.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let time = Datetime::deserialize(deserializer)?.to_string();
        let time = humantime::parse_rfc3339_weak(&time);
        let time = time.map_err(|error| {
            D::Error::custom(format!("expires: {error}: write 2027-01-31T00:00:00Z"))
        })?;
        Ok(Some(time.into()))
    }
}
