//! Logs go to standard error: for people on a terminal, JSON under systemd.
//!
//! A line that concerns a job has its id in the field `job`, at the top level of the JSON. No line
//! has a password of the configuration in it, whichever crate wrote it.

use crate::{
    Secrets,
    config::{LogConfig, LogFormat},
};
use anyhow::Context;
use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Starts logging for the whole process.
pub fn init(config: &LogConfig, secrets: Secrets) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("log.filter {:?}", config.filter))?;
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => is_journal(),
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Masked(secrets))
        .with_ansi(colour);
    let started = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    } else {
        builder.with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

/// Whether standard error is systemd's journal: the variable, which is inherited by all that a
/// service starts, tells device and inode of the stream that it is about.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr();
    rustix::fs::fstat(stderr.as_fd())
        .is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Standard error, without passwords.
struct Masked(Secrets);

impl<'a> MakeWriter<'a> for Masked {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// Takes a whole line at once, as the formatter writes it.
struct Line<'a>(&'a Secrets);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().write_all(self.0.mask(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
