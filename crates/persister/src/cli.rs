//! The command line of `imgsys-persister`.

use crate::{Settings, thread};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use imgsys_history::{ConnectError, MigrateError, WriteError};
use imgsys_queue::events::StreamError;
use imgsys_service::{
    Config, Exit, Program,
    config::{DatabaseConfig, LogConfig, PersisterConfig, RedisConfig},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Writes what was accepted, finished and failed into the history in PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "imgsys-persister", version)]
pub struct Cli {
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
}

impl Program for Cli {
    const OWN: &'static [&'static str] = &["persister"];
    type Sections = Sections;

    fn check(config: &Config) -> Result<(), Exit> {
        crate::check(config).map_err(exit)
    }
}

/// The program.
pub async fn start(cli: Cli, config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
    let settings = Settings::of(&config)?;
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => crate::run(settings, shutdown).await.map_err(exit),
        Command::Migrate => {
            let migrate = move || migrate(&settings.database_url);
            let done = thread::run(&shutdown, migrate).await.context("migrating")?;
            done.context("stopped before the schema was up to date")?
                .map_err(Exit::Failed)
        }
    }
}

/// A URL that makes no sense is a mistake of whoever wrote it.
fn exit(error: anyhow::Error) -> Exit {
    let mistake = matches!(error.downcast_ref(), Some(StreamError::Url(_)))
        || matches!(error.downcast_ref(), Some(WriteError::Url(_)))
        || matches!(error.downcast_ref(), Some(ConnectError::Url(_)))
        || matches!(
            error.downcast_ref(),
            Some(MigrateError::Connect(ConnectError::Url(_)))
        );
    if mistake {
        Exit::Usage(format!("{error:#}"))
    } else {
        Exit::Failed(error)
    }
}

fn migrate(url: &str) -> anyhow::Result<()> {
    let mut client = imgsys_history::connect(url)?;
    let done = imgsys_history::migrate(&mut client)?;
    if done.is_empty() {
        println!("the schema is up to date");
    }
    for name in done {
        println!("applied {name}");
    }
    Ok(())
}
