//! The file of tokens.

use imgsys_types::{Digest, Owner, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

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

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// For people: which device or person has it.
    pub(crate) name: String,
    /// For whom it speaks.
    pub(crate) owner: Owner,
    /// The SHA-256 of its secret.
    pub(crate) sha256: Digest,
    /// What it allows.
    pub(crate) scopes: Vec<Scope>,
    /// When it ends to do so.
    #[serde(default, with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
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
