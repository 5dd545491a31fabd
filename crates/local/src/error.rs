//! What can go wrong while the parts of the system are started, stopped and watched.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why a part does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of somebody else's is missing.
    #[error("{program} not found: apt-get install {package} (or run scripts/setup)")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// Debian's package that holds it.
        package: &'static str,
    },
    /// A program of ours is missing.
    #[error("{program} is neither in {} nor in PATH: cargo build --workspace --bins", .beside.display())]
    NotBuilt {
        /// The program.
        program: String,
        /// Where it should be.
        beside: PathBuf,
    },
    /// The data directory was made by a PostgreSQL that is not installed.
    #[error("{} was made by PostgreSQL {made_by}, which is not installed: apt-get install postgresql-{made_by}, or use another directory", .data.display())]
    OtherVersion {
        /// PostgreSQL's data directory.
        data: PathBuf,
        /// Major version that made it.
        made_by: String,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error("PostgreSQL can't run as root, and there is neither a user postgres nor a user nobody")]
    NoUser,
    /// The user that PostgreSQL runs as can't get to its directory.
    #[error("user {user} can't enter {}, but PostgreSQL's directory {} is below it: chmod o+x {}, or use another directory", .blocker.display(), .dir.display(), .blocker.display())]
    Blocked {
        /// The user.
        user: String,
        /// The directory that keeps the user out.
        blocker: PathBuf,
        /// Where the user should get to.
        dir: PathBuf,
    },
    /// The kernel keeps the path of a socket in 108 bytes.
    #[error("the path of the socket {} is too long by {excess} bytes: use a directory with a shorter path", .path.display())]
    LongPath {
        /// The path.
        path: PathBuf,
        /// Bytes beyond what is possible.
        excess: usize,
    },
    /// The path would mean something else in a URL or a connection string.
    #[error(
        "the path {path:?} has {character:?} in it, which URLs give a meaning: use another directory"
    )]
    OddPath {
        /// The path.
        path: PathBuf,
        /// The first such character.
        character: char,
    },
    /// Another process runs the system in this directory.
    #[error("{} is in use by another imgsys-local (process {holder})", .dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The other's process id, as it wrote it down.
        holder: String,
    },
    /// A directory that was not made for this.
    #[error("{} holds other files: name an empty or a new directory", .dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
    },
    /// A part ended by itself.
    #[error("{name} ended: {status}{}", last(.lines))]
    Ended {
        /// The part.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote last.
        lines: Vec<String>,
    },
    /// A part runs, but does not do its work.
    #[error("{name} was not ready after {} s{}", .waited.as_secs(), last(.lines))]
    NotReady {
        /// The part.
        name: String,
        /// How long it was given.
        waited: Duration,
        /// What it wrote last.
        lines: Vec<String>,
    },
    /// Redis or PostgreSQL did not do what it was told.
    #[error("{name}: {message}")]
    Refused {
        /// The part.
        name: String,
        /// Its answer.
        message: String,
    },
    /// A key of the configuration is not of the form `section.key`.
    #[error("setting {key:?}: a key has the form section.key")]
    Key {
        /// The key.
        key: String,
    },
    /// The system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps an error of the system with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }
}

fn last(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it wrote nothing".to_owned();
    }
    format!("; its last lines:\n  {}", lines.join("\n  "))
}
