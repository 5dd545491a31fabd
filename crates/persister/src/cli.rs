//! The command line of `imgsys-persister`.

use crate::Settings;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use imgsys_service::{
    Config, Exit, Program,
    config::{DatabaseConfig, LogConfig, PersisterConfig, RedisConfig},
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Writes what was accepted, finished and failed into the history in PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "imgsys-persister", version)]
pub struct Cli {
    /// Configuration file [default: /etc/imgsys/imgsys.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "IMGSYS_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sections: Sections,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The sections that the persister uses.
#[derive(Debug, Args, Serialize)]
pub struct Sections {
    #[command(flatten)]
    persister: PersisterConfig,
    #[command(flatten)]
    redis: RedisConfig,
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    log: LogConfig,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Write events until stopped (what is done without a command)
    Run,
    /// Bring the database's schema up to date
    Migrate,
    /// Check the configuration and end
    CheckConfig,
}

impl Program for Cli {
    const OWN: &'static [&'static str] = &["persister"];
    type Sections = Sections;

    fn sections(&self) -> &Sections {
        &self.sections
    }

    fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// The program.
pub async fn start(cli: Cli, config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
    let settings = Settings::of(&config)?;
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => Ok(crate::run(settings, shutdown).await?),
        Command::Migrate => {
            let migrate = move || migrate(&settings.database_url);
            let done = tokio::task::spawn_blocking(migrate).await;
            Ok(done.context("migrating")??)
        }
        Command::CheckConfig => Ok(()),
    }
}

fn migrate(url: &str) -> anyhow::Result<()> {
    let mut client = imgsys_history::connect(url).context("connecting to PostgreSQL")?;
    let done = imgsys_history::migrate(&mut client)?;
    if done.is_empty() {
        println!("the schema is up to date");
    }
    for name in done {
        println!("applied {name}");
    }
    Ok(())
}
