//! What can go wrong with a whole call, and the exit codes.

use crate::{link::LinkError, times::Span};
use imgsys_types::ErrorCode;
use std::{io, process::ExitCode, time::Duration};

/// How the program ends. The numbers are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done; every image was analysed.
    Ok = 0,
    /// Something was not: an image was not analysed, a job is unknown.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no server to talk to.
    Unreachable = 3,
    /// The server does not allow it.
    NotAllowed = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a call ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection in all that time.
    #[error("no server at {address} (tried for {})", Span(*.tried))]
    Unreachable {
        /// Where.
        address: String,
        /// How long.
        tried: Duration,
        /// The last attempt's error.
        #[source]
        source: LinkError,
    },
    /// There is something at that address, but nothing to talk to.
    #[error("can't work with the server at {address}")]
    Unusable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: LinkError,
    },
    /// The server does not allow it.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// The server refused the request.
    #[error("{text} ({code})")]
    Refused {
        /// The wire protocol's code.
        code: ErrorCode,
        /// The server's words.
        text: String,
    },
    /// The server answered something else.
    #[error("the server's answer has nothing to do with the question")]
    Nonsense,
    /// Something on this machine.
    #[error("{doing}")]
    Local {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Something on this machine, without a cause beneath it.
    #[error("{0}")]
    Plain(String),
    /// Something on standard input that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// `--timeout` was over.
    #[error("not everything was answered within {}", Span(*.0))]
    TimedOut(Duration),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl ClientError {
    /// An I/O error with what was being done.
    pub(crate) fn local(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Local { doing, source }
    }

    /// A request that the server refused for good.
    pub(crate) fn refused(code: ErrorCode, text: String) -> Self {
        if code == ErrorCode::NotAllowed {
            Self::NotAllowed(text)
        } else {
            Self::Refused { code, text }
        }
    }

    /// The exit code that tells of it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Unusable { .. } => Exit::Unreachable,
            Self::NotAllowed(_) => Exit::NotAllowed,
            Self::Interrupted => Exit::Interrupted,
            Self::Usage(_) => Exit::Usage,
            Self::Refused { .. }
            | Self::Nonsense
            | Self::Local { .. }
            | Self::Plain(_)
            | Self::TimedOut(_) => Exit::Failed,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
