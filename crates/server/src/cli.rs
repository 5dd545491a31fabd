//! The command line of `imgsys-server`.

// Doc comments are help texts here.
#![allow(clippy::doc_markdown, rustdoc::invalid_html_tags)]

use crate::auth::{self, Edit};
use clap::{Args, Parser, Subcommand};
use imgsys_service::{
    Config, Exit, Program,
    config::{
        AuthConfig, CeleryConfig, DatabaseConfig, LimitsConfig, LogConfig, RedisConfig,
        ServerConfig,
    },
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Takes images from clients, keeps them, has workers analyse them, and tells the answers.
///
/// Every key of the configuration file can also be given as a flag or as IMGSYS_<SECTION>_<KEY>;
/// a flag goes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "imgsys-server", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do other than to serve.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make, list and take back the tokens of auth.tokens_file
    #[command(subcommand)]
    Token(Edit),
}

impl Cli {
    /// Does what was asked for: to serve, unless there is a subcommand.
    pub async fn run(self, config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
        match self.command {
            None => crate::run(config, shutdown).await,
            Some(Command::Token(edit)) => {
                let Some(file) = &config.auth.tokens_file else {
                    let text = "where are the tokens? Set auth.tokens_file, or --auth-tokens-file";
                    return Err(Exit::Usage(text.into()));
                };
                Ok(auth::edit(file, edit)?)
            }
        }
    }
}

/// The sections that the server uses.
#[derive(Debug, Args, Serialize)]
pub struct Sections {
    #[command(flatten)]
    server: ServerConfig,
    #[command(flatten)]
    auth: AuthConfig,
    #[command(flatten)]
    limits: LimitsConfig,
    #[command(flatten)]
    celery: CeleryConfig,
    #[command(flatten)]
    redis: RedisConfig,
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    log: LogConfig,
}

impl Program for Cli {
    const OWN: &'static [&'static str] = &["server", "limits"];
    type Sections = Sections;

    fn check(config: &Config) -> Result<(), Exit> {
        crate::check(config)
    }
}
