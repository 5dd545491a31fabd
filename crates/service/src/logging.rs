//! Logs go to standard error: for people on a terminal, JSON under systemd.

use crate::config::{LogConfig, LogFormat};
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("log.filter {:?}", config.filter))?;
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        // systemd sets this for services whose standard error is the journal.
        LogFormat::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let started = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
