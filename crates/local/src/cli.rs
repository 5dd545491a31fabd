//! The commands of `imgsys-local`.

use crate::up;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::{env, path::PathBuf, process::ExitCode};

/// Runs the whole of imgsys on one machine: Redis, PostgreSQL, persister, server and workers.
#[derive(Debug, Parser)]
#[command(
    name = "imgsys-local",
    version,
    after_help = "Exit codes: 0 well, 1 a part failed, 2 usage; demo: that of the client."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the system running until Ctrl-C or SIGTERM
    ///
    /// Redis and PostgreSQL are private to it: started in the data directory, on sockets there.
    /// Everything is stopped in order at the end, or if a part ends by itself.
    Up(Up),
    /// Start the system, send it images, show the history, stop
    Demo(Demo),
}

/// Flags of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
The programs are configured by DIR/imgsys.toml, which is written anew at every start. What it does
not set can be tuned by variables, as in IMGSYS_WORKER_THREADS=2 imgsys-local up.

Example:
  imgsys-local up --data ~/imgsys &
  IMGSYS_SERVER=127.0.0.1:7450 imgsys send photo.jpg")]
pub(crate) struct Up {
    /// Directory of all data [default: /var/lib/imgsys-local as root, else
    /// ~/.local/share/imgsys]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address on which clients are served; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7450")]
    pub(crate) listen: String,
    /// Address of the server's health and metrics; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7451")]
    pub(crate) http_listen: String,
    /// Worker processes; 0 for none, if others are to do the work
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(crate) workers: u16,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Images, or directories of images
    #[arg(value_name = "PATH", default_value = "samples")]
    pub(crate) paths: Vec<PathBuf>,
}

impl Up {
    pub(crate) fn data(&self) -> anyhow::Result<PathBuf> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/imgsys-local".into());
        }
        let folder = |name| env::var_os(name).map(PathBuf::from);
        folder("XDG_DATA_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
            .map(|shared| shared.join("imgsys"))
            .context("neither HOME nor XDG_DATA_HOME is set: name a directory with --data")
    }
}

/// Does what the command line says. An error is told on standard error.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let outcome = match &cli.command {
        Command::Up(options) => up::up(options),
        Command::Demo(options) => up::demo(options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("imgsys-local: {error:#}");
        ExitCode::FAILURE
    })
}
