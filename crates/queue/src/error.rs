//! What can go wrong between us and Redis.

use crate::AddressError;
use redis::RedisError;

/// Why the queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The URL makes no sense.
    #[error("reading the URL of Redis")]
    Url(#[from] AddressError),
    /// Redis is away, or can't do it now: try again later.
    #[error("Redis can't {doing} now")]
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
