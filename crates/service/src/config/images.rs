//! `[worker.images]`: how a worker makes itself known where it fetches images over HTTP.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a worker and the servers from which it fetches images over HTTP know each other.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// File with the token for fetching images over HTTP; it needs the scope worker
    #[arg(id = "worker.images.token_file", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whoever signs the certificates of servers from which images are fetched over https, in PEM
    /// [default: the system's roots]
    #[arg(id = "worker.images.ca", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}
