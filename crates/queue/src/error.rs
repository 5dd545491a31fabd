//! What can go wrong between us and Redis.

use crate::AddressError;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::fmt;

/// Why the queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The URL makes no sense.
    #[error("reading the URL of Redis")]
    Url(#[from] AddressError),
    /// Redis is away, or can't do it now: try again later.
    #[error("Redis can't {doing} now{}", Advice(source))]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// Redis's word.
        source: RedisError,
    },
    /// A job or result holds something that JSON has no way to write.
    #[error("writing JSON for the queue")]
    Json(#[from] serde_json::Error),
    /// The worker loop could not be built or ended by itself.
    #[error("running Celery's worker loop")]
    Celery(#[from] celery::error::CeleryError),
    /// The machine did not give what the worker loop needs.
    #[error("preparing Celery's worker loop")]
    Io(#[from] std::io::Error),
}

impl QueueError {
    /// Makes the error for what was being done.
    pub(crate) fn unavailable(doing: &'static str) -> impl FnOnce(RedisError) -> Self {
        move |source| Self::Unavailable { doing, source }
    }
}

/// Whether Redis does not let our user do it.
pub(crate) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// What to do about an error of Redis's: nothing, or `: it …`.
pub(crate) struct Advice<'a>(pub(crate) &'a RedisError);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match advice(self.0) {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

fn advice(error: &RedisError) -> Option<&'static str> {
    Some(match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "it refuses our user or password; see redis.url and redis.password_file"
        }
        (_, Some("NOAUTH")) => "it wants a password; see redis.password_file",
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "our user may not do that; docs/queue.md has the ACL rules"
        }
        (
            ErrorKind::Server(
                ServerErrorKind::Moved | ServerErrorKind::CrossSlot | ServerErrorKind::ClusterDown,
            ),
            _,
        ) => "it belongs to a Redis Cluster, which is not supported",
        _ => return imgsys_tls::advice(error),
    })
}
