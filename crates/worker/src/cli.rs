//! The command line of `imgsys-worker`.

// Doc comments are help texts here.
#![allow(clippy::doc_markdown, rustdoc::invalid_html_tags)]

use clap::{Args, Parser};
use imgsys_service::{
    Program,
    config::{LimitsConfig, LogConfig, RedisConfig, WorkerConfig},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Takes tasks from the queue, fetches their images, analyses them, and tells the results.
///
/// Every key of the configuration file can also be given as a flag or as IMGSYS_<SECTION>_<KEY>;
/// a flag goes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "imgsys-worker", version)]
pub struct Cli {
    /// Configuration file [default: /etc/imgsys/imgsys.toml, if it is there]
    #[arg(long, env = "IMGSYS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sections: Sections,
}

/// The sections that a worker uses.
#[derive(Debug, Args, Serialize)]
pub struct Sections {
    #[command(flatten)]
    worker: WorkerConfig,
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

    fn sections(&self) -> &Sections {
        &self.sections
    }

    fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}
