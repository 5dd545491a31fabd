//! The commands, one module each.

pub(crate) mod cancel;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod reanalyze;
pub(crate) mod runs;
pub(crate) mod send;
pub(crate) mod show;
pub(crate) mod similar;
pub(crate) mod status;
pub(crate) mod wait;

use crate::{
    caller::Caller,
    clean::clean,
    cli::{JobArg, Named},
    context::Context,
    error::{ClientError, Exit},
    line::json_line,
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

/// What became of one job.
#[derive(Debug, Serialize)]
struct Told {
    job: JobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What is done to each of the jobs that are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Cancelled,
    Deleted,
}

/// Does it to each of them, and tells how that went. A refusal is of one job, not of those behind it.
async fn to_each(
    args: Named,
    context: Context,
    deed: Deed,
    ask: impl AsyncFn(&mut Caller<'_>, JobId) -> Result<(), ClientError>,
) -> Result<Exit, ClientError> {
    let mut caller = Caller::new(&context);
    let mut exit = Exit::Ok;
    for job in job_ids(&args.jobs, &context).await? {
        let refusal = match ask(&mut caller, job).await {
            Ok(()) => None,
            Err(ClientError::Refused { code, text }) => Some((code, text)),
            Err(error) => return Err(error),
        };
        if refusal.is_some() {
            exit = Exit::Failed;
        }
        if args.json {
            let done = |which| (which == deed).then_some(refusal.is_none());
            let told = Told {
                job,
                cancelled: done(Deed::Cancelled),
                deleted: done(Deed::Deleted),
                reason: refusal.as_ref().map(|(code, _)| code.as_str()),
                detail: refusal.map(|(_, text)| text),
            };
            print_json(&context.screen, &told)?;
        } else {
            let what = match (refusal, deed) {
                (Some((code, text)), _) => clean(&format!("failed: {code}: {text}")).into_owned(),
                (None, Deed::Cancelled) => "cancelled".into(),
                (None, Deed::Deleted) => "deleted".into(),
            };
            print(&context.screen, &format!("{job}  {what}\n"))?;
        }
    }
    Ok(exit)
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
