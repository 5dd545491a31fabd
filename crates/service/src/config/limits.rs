//! `[limits]`.

// As in the module above: docs are the flags' help texts.
#![allow(clippy::doc_markdown)]

use crate::ByteCount;
use clap::Args;
use imgsys_types::Limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What clients, images and tasks are held to.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// The largest image, in bytes
    #[arg(
        id = "limits.max_image",
        long,
        value_name = "BYTES",
        default_value = "64MiB"
    )]
    pub max_image: ByteCount,
    /// The most pixels of an image
    #[arg(
        id = "limits.max_pixels",
        long,
        value_name = "N",
        default_value = "50000000"
    )]
    pub max_pixels: u64,
    /// The longest side of an image, in pixels
    #[arg(
        id = "limits.max_side",
        long,
        value_name = "N",
        default_value = "32768"
    )]
    pub max_side: u32,
    /// The most memory that decoding an image may take
    #[arg(
        id = "limits.max_decode_memory",
        long,
        value_name = "BYTES",
        default_value = "512MiB"
    )]
    pub max_decode_memory: ByteCount,
    /// The longest that a task may run
    #[arg(id = "limits.task_time", long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub task_time: Duration,
    /// Connections at once
    #[arg(
        id = "limits.max_connections",
        long,
        value_name = "N",
        default_value = "10000"
    )]
    pub max_connections: usize,
    /// Submits of a connection that wait for `accepted` at once
    #[arg(
        id = "limits.max_in_flight",
        long,
        value_name = "N",
        default_value = "64"
    )]
    pub max_in_flight: u32,
    /// Jobs of which a connection awaits the result at once
    #[arg(
        id = "limits.max_watched",
        long,
        value_name = "N",
        default_value = "100000"
    )]
    pub max_watched: u32,
    /// How long a client may take over `hello`
    #[arg(id = "limits.handshake", long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// How long a client may be silent, unless it awaits an answer
    #[arg(id = "limits.idle", long, value_name = "TIME", default_value = "120s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// The slowest that an image may come, in bytes a second, from 10 seconds after its beginning
    #[arg(
        id = "limits.min_rate",
        long,
        value_name = "BYTES",
        default_value = "4KiB"
    )]
    pub min_rate: ByteCount,
    /// Unfinished jobs of an owner at once; 0 for no limit
    #[arg(
        id = "limits.owner_unfinished",
        long,
        value_name = "N",
        default_value = "0"
    )]
    pub owner_unfinished: usize,
    /// Bytes of images that an owner may send a day, from midnight to midnight (UTC); 0 for no limit
    #[arg(
        id = "limits.owner_bytes_per_day",
        long,
        value_name = "BYTES",
        default_value = "0"
    )]
    pub owner_bytes_per_day: ByteCount,
    /// Requests a second of an owner, all connections together, a second's worth at once;
    /// 0 for no limit
    #[arg(
        id = "limits.owner_requests_per_second",
        long,
        value_name = "N",
        default_value = "0"
    )]
    pub owner_requests_per_second: u32,
}

impl LimitsConfig {
    /// The limits as `welcome` tells them.
    #[must_use]
    pub fn wire(&self) -> Limits {
        Limits {
            max_image: self.max_image.get(),
            max_in_flight: self.max_in_flight,
            max_watched: self.max_watched,
            idle_ms: u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX),
            ..Limits::default()
        }
    }
}
