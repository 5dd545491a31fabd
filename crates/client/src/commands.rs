//! The commands, one module each.

pub(crate) mod cancel;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod reanalyze;
pub(crate) mod runs;
pub(crate) mod send;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod wait;

use crate::{
    clean::clean, cli::JobArg, context::Context, error::ClientError, line::json_line,
    screen::Screen,
};
use imgsys_types::JobId;
use serde::Serialize;
use std::{fmt::Write as _, io};

/// The jobs on the command line, with those on standard input in the place of `-`.
async fn job_ids(args: &[JobArg], context: &Context) -> Result<Vec<JobId>, ClientError> {
    let mut jobs = Vec::new();
    for arg in args {
        match arg {
            JobArg::Id(job) => jobs.push(*job),
            JobArg::Stdin => {
                let read = tokio::task::spawn_blocking(read_job_ids);
                let read = tokio::select! {
                    read = read => read.map_err(io::Error::other),
                    () = context.interrupted() => return Err(ClientError::Interrupted),
                };
                jobs.extend(read.map_err(ClientError::local("reading standard input"))??);
            }
        }
    }
    Ok(jobs)
}

fn read_job_ids() -> Result<Vec<JobId>, ClientError> {
    let mut jobs = Vec::new();
    for (index, line) in io::stdin().lines().enumerate() {
        let line = line.map_err(ClientError::local("reading standard input"))?;
        let Some(word) = line.split_whitespace().next() else {
            continue;
        };
        let job = word.parse().map_err(|error| {
            ClientError::Usage(format!("standard input, line {}: {error}", index + 1))
        })?;
        jobs.push(job);
    }
    Ok(jobs)
}

/// Prints lines of results.
fn print(screen: &Screen, lines: &str) -> Result<(), ClientError> {
    screen
        .print(lines)
        .map_err(ClientError::local("writing to standard output"))
}

/// Prints a value as a line of JSON.
fn print_json(screen: &Screen, value: &impl Serialize) -> Result<(), ClientError> {
    let line =
        json_line(value).map_err(|error| ClientError::Plain(format!("writing JSON: {error}")))?;
    print(screen, &line)
}

/// Names and values in two columns.
fn listing(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut lines = String::new();
    for (name, value) in pairs {
        // Writing to a string can't fail.
        let _ = writeln!(lines, "{name:width$}  {}", clean(value));
    }
    lines
}
