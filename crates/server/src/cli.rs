//! The command line of `imgsys-server`.

// Doc comments are help texts here.
#![allow(clippy::doc_markdown)]

use clap::{Args, Parser};
use imgsys_service::{
    Program,
    config::{DatabaseConfig, LimitsConfig, LogConfig, RedisConfig, ServerConfig},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Takes images from clients, keeps them, has workers analyse them, and tells the answers.
///
/// Every key of the configuration file can also be given as a flag or as IMGSYS_<SECTION>_<KEY>;
/// a flag goes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "imgsys-server", version)]
pub struct Cli {
    /// Configuration file [default: /etc/imgsys/imgsys.toml, if it is there]
    #[arg(long, env = "IMGSYS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sections: Sections,
}

/// The sections that the server uses.
#[derive(Debug, Args, Serialize)]
pub struct Sections {
    #[command(flatten)]
    server: ServerConfig,
    #[command(flatten)]
    limits: LimitsConfig,
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

    fn sections(&self) -> &Sections {
        &self.sections
    }

    fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}
