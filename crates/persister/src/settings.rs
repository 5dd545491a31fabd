//! What a persister needs to know.

use imgsys_service::Config;
use std::{fmt, time::Duration};

/// What a persister needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Where Redis is; may hold a password.
    pub redis_url: String,
    /// Where PostgreSQL is; may hold a password.
    pub database_url: String,
    /// Events read for one transaction, at most; accepted events that have waited come on top.
    pub batch: usize,
    /// How long a transaction waits for more events; longer while many come.
    pub linger: Duration,
    /// After how long the events that a persister holds are taken over by another. Longer than a
    /// batch takes, or work is done twice (which changes nothing).
    pub claim_after: Duration,
    /// How long PostgreSQL may take over a transaction before it counts as away.
    pub write_timeout: Duration,
    /// Whether to bring the schema up to date at start.
    pub migrate: bool,
    /// Address of the HTTP side listener; empty for none.
    pub http_listen: String,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("batch", &self.batch)
            .field("linger", &self.linger)
            .field("claim_after", &self.claim_after)
            .field("write_timeout", &self.write_timeout)
            .field("migrate", &self.migrate)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The persister's part of the configuration, with the passwords of its files.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            redis_url: config.redis.secret_url()?,
            database_url: config.database.secret_url()?,
            batch: config.persister.batch.max(1),
            linger: config.persister.linger,
            claim_after: config.persister.claim_after,
            write_timeout: config.persister.write_timeout,
            migrate: config.persister.migrate,
            http_listen: config.persister.http_listen.clone(),
        })
    }
}
