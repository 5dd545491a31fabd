//! The secret that says who the user is, and where it is found.

use crate::error::ClientError;
use std::{
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// More than any token has; a larger file is something else.
const MAX_FILE: u64 = 4096;

/// A secret: its text is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// The text, for the server.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// The token of whoever calls: that of the file, else that of the variable `IMGSYS_TOKEN`, else
    /// that of the file in the user's configuration, if there is one.
    pub(crate) fn find(file: Option<&Path>) -> Result<Option<Self>, ClientError> {
        if let Some(file) = file {
            return Self::read(file).map(Some);
        }
        if let Some(text) = set("IMGSYS_TOKEN") {
            let text = text.into_string().unwrap_or_default();
            let text = text.trim();
            return Self::parse(text)
                .map(Some)
                .ok_or_else(|| usage("IMGSYS_TOKEN is no token".into()));
        }
        match usual_file() {
            Some(file) if file.exists() => Self::read(&file).map(Some),
            _ => Ok(None),
        }
    }

    fn read(path: &Path) -> Result<Self, ClientError> {
        let shown = path.display();
        let doing = |error: io::Error| usage(format!("reading the token in {shown}: {error}"));
        let file = File::open(path).map_err(doing)?;
        let found = file.metadata().map_err(doing)?;
        let mode = found.permissions().mode() & 0o777;
        // What is no file, such as a pipe from a password manager, has no readers but this one.
        if found.is_file() && mode & 0o077 != 0 {
            return Err(usage(format!(
                "others can read the token in {shown} (mode {mode:03o}): chmod 600 {shown}, and have the \
                 token replaced if they may have done so"
            )));
        }
        let mut text = String::new();
        let read = file.take(MAX_FILE).read_to_string(&mut text);
        read.map_err(doing)?;
        Self::parse(text.trim()).ok_or_else(|| {
            usage(format!(
                "{shown} holds no token: write what `imgsys-server token new` has printed, and nothing else"
            ))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn usage(text: String) -> ClientError {
    ClientError::Usage(text)
}

/// A variable that is set to something.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// `~/.config/imgsys/token`, or where the XDG base directories put it.
fn usual_file() -> Option<PathBuf> {
    let config = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(Path::new(&set("HOME")?).join(".config")))?;
    Some(config.join("imgsys/token"))
}
