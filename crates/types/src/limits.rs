//! The limits that a server holds its clients to, told in `welcome`.

use serde::{Deserialize, Serialize};

/// What a client may ask of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest image, in bytes.
    pub max_image: u64,
    /// Submits that may wait for `accepted` at once on a connection.
    pub max_in_flight: u32,
    /// Jobs whose result a connection may wait for at once.
    pub max_watched: u32,
    /// Jobs on a page of the history.
    pub max_page: u32,
    /// How long a connection without outstanding answers may be silent, in milliseconds.
    pub idle_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_image: 64 << 20,
            max_in_flight: 64,
            max_watched: 100_000,
            max_page: 1000,
            idle_ms: 120_000,
        }
    }
}
