//! The command line of `imgsys-worker`.

// Doc comments are help texts here.
#![allow(clippy::doc_markdown, rustdoc::invalid_html_tags)]

use clap::{Args, Parser};
use imgsys_service::{
    Config, Exit, Program,
    config::{CeleryConfig, LimitsConfig, LogConfig, RedisConfig, WorkerConfig},
};
use serde::Serialize;

/// Takes tasks from the queue, fetches their images, analyses them, and tells the results.
///
/// Every key of the configuration file can also be given as a flag or as IMGSYS_<SECTION>_<KEY>;
/// a flag goes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "imgsys-worker", version)]
pub struct Cli {}

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
