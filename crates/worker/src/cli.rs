//! The command line of `imgsys-worker`.

// Doc comments are help texts here.
#![allow(clippy::doc_markdown, rustdoc::invalid_html_tags)]

use crate::dead::{self, Dead};
use clap::{Args, Parser, Subcommand};
use imgsys_service::{
    Config, Exit, Program,
    config::{CeleryConfig, LimitsConfig, LogConfig, RedisConfig, WorkerConfig},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Takes tasks from the queue, fetches their images, analyses them, and tells the results.
///
/// Every key of the configuration file can also be given as a flag or as IMGSYS_<SECTION>_<KEY>;
/// a flag goes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "imgsys-worker", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do other than to work.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Look at the messages that were set aside, run them once more, or drop them
    #[command(subcommand)]
    Dead(Dead),
}

impl Cli {
    /// Does what was asked for: to work, unless there is a subcommand.
    pub async fn run(self, config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
        match self.command {
            None => crate::run(config, shutdown).await,
            Some(Command::Dead(what)) => {
                let url = config.redis.secret_url()?;
                let done = shutdown.run_until_cancelled(dead::run(&url, what)).await;
                done.unwrap_or_else(|| Err(Exit::Failed(anyhow::anyhow!("interrupted"))))
            }
        }
    }
}

/// The sections that a worker uses.
#[derive(Debug, Args, Serialize)]
pub struct Sections {
    #[command(flatten)]
    worker: WorkerConfig,
    #[command(flatten)]
    celery: CeleryConfig,
    #[command(flatten)]
    limits: LimitsConfig,
    #[command(flatten)]
    redis: RedisConfig,
    #[command(flatten)]
    log: LogConfig,
}

impl Program for Cli {
    const OWN: &'static [&'static str] = &["worker", "limits"];
    type Sections = Sections;

    fn check(config: &Config) -> Result<(), Exit> {
        crate::check(config)
    }
}
