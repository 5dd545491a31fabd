//! The command line.

mod filter;
mod global;
mod similar;

pub(crate) use filter::Filter;
pub(crate) use global::Global;
pub(crate) use similar::{ImageArg, Similar};

use crate::times::parse_span;
use clap::{Args, Parser, Subcommand, value_parser};
use imgsys_types::{JobId, JobState, Owner, Priority, Whose};
use std::{path::PathBuf, str::FromStr, time::Duration};

const EXAMPLES: &str = "\
Examples:
  imgsys send cat.jpg                    send an image and wait for what is in it
  imgsys send photos/ --json             a directory with all below it; one JSON object per image
  find . -name '*.png' -print0 | imgsys send -0 -
  imgsys history --since 2h --state failed
  imgsys similar cat.jpg                 what was sent before and looks like it
  imgsys reanalyze --analyzer simulated  what was only simulated, now that there is a model
  imgsys --server tls://images.example status";

const EXIT_CODES: &str = "\
Exit codes:
  0    everything was done; every image was analysed
  1    something was not: the lines say what and why
  2    the command line makes no sense
  3    no server could be reached, or none that speaks this program's protocol
  4    the server does not allow it
  130  interrupted";

const JSON_FIELDS: &str = "\
JSON: one object per line. Fields, left out where they make no sense:
  name          the file's path as it was given
  job           the job's id, for show, wait, get, cancel and delete
  state         done, failed, or queued (accepted, not answered yet)
  label         what is in the image; confidence in percent
  reason        why it failed, for programs; detail, for people
  duplicate     whether the server had the image already
  distance      how many of the 64 bits of the perceptual hash differ (of similar)
  sha256, size  of the file, in bytes
  ms            from sending to the answer (in history: to the end of the analysis)
  queued_ms, analysis_ms, analyzer {name, version, model}, scores [{label, confidence}],
  properties {format, width, height, ...}, worker, attempts, run, submitted_at, finished_at
Times are RFC 3339 in UTC.";

/// Sends images to an imgsys server and shows what is in them.
#[derive(Debug, Parser)]
#[command(
    name = "imgsys",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send images, wait for the answers, print a line for each.
    ///
    /// A job that was accepted goes on whatever happens to this program: see `wait` and `history`.
    /// An image that the server has already is not sent again.
    #[command(after_long_help = JSON_FIELDS)]
    Send(Send),
    /// Show jobs of the past, newest first.
    #[command(after_long_help = JSON_FIELDS)]
    History(History),
    /// Show all that is known of a job.
    Show(Show),
    /// Show jobs of the past whose image looks like this one, the most alike first.
    ///
    /// How alike two images are is told by their perceptual hashes, which the analysis makes: so an
    /// image must have been sent before it can be compared. A file is known again by its SHA-256.
    #[command(after_long_help = JSON_FIELDS)]
    Similar(Similar),
    /// Wait for jobs and print a line for each as it ends.
    #[command(after_long_help = JSON_FIELDS)]
    Wait(Wait),
    /// Get a job's image back.
    Get(Get),
    /// End jobs that have not ended yet; they count as failed.
    Cancel(Named),
    /// Delete jobs that have ended, and their images.
    ///
    /// A deleted job is in no history any more. What stays of it at the server is that there was an
    /// image of this size and SHA-256, when, and how long it took: not its name, nor what was seen
    /// in it. Its file is removed unless another job has the same image. There is no way back.
    Delete(Named),
    /// Analyse images once more that are at the server, and wait for the answers.
    ///
    /// The jobs stay what they are: this is their next run, and the history shows the newest. A job
    /// whose image is not kept any more is told as failed, and stays as it was.
    #[command(after_long_help = JSON_FIELDS)]
    Reanalyze(Reanalyze),
    /// Show how the server is doing.
    Status(Status),
}

/// Options of `send`.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Files and directories; `-` reads paths from standard input, one a line.
    ///
    /// Of a directory, and of those below it, the files that end in jpg, jpeg, png, gif, webp, bmp,
    /// tif or tiff are sent. A file that is named is sent whatever its name.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How urgent the jobs are: 0 (first) to 9 (last).
    #[arg(short, long, value_name = "0..9", default_value = "5", value_parser = parse_priority)]
    pub(crate) priority: Priority,
    /// How many images may be on their way to the server at once.
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,
    /// Be done once the images are accepted; print the jobs' ids.
    ///
    /// With --quiet nothing but the ids is printed, one a line.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// End after this long, answered or not; accepted jobs go on at the server.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
    /// Paths on standard input end in NUL instead of a new line, as `find -print0` writes them.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Print a JSON object for each image.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `history`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct History {
    /// Show this many jobs at most.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Show all jobs.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Of jobs that were analysed more than once, show what each run came to, the newest first.
    #[arg(long)]
    pub(crate) all_runs: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
    /// Print a JSON object for each job.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print comma-separated values with a header.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// Whose jobs; without any of these, one's own. The token needs the scope `admin`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct WhoseArgs {
    /// Of this owner; the token needs the scope `admin`.
    #[arg(long, value_name = "NAME", conflicts_with = "all_owners")]
    owner: Option<Owner>,
    /// Of all owners; the token needs the scope `admin`.
    #[arg(long)]
    all_owners: bool,
}

impl WhoseArgs {
    /// The same as the protocol has it.
    pub(crate) fn wire(&self) -> Option<Whose> {
        if self.all_owners {
            Some(Whose::All)
        } else {
            self.owner.clone().map(Whose::One)
        }
    }
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The job's id.
    pub(crate) job: JobId,
    /// Show what each of its runs came to, the newest first.
    #[arg(long)]
    pub(crate) all_runs: bool,
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `wait`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Ids of jobs; `-` reads them from standard input, the first word of each line.
    #[arg(required = true, value_name = "JOB")]
    pub(crate) jobs: Vec<JobArg>,
    /// End after this long, answered or not.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object for each job.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The job's id.
    pub(crate) job: JobId,
    /// Where to write it: a file, a directory, or `-` for standard output. If this is left out, a
    /// file in the present directory with the last part of the image's name.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Options of commands for jobs that are named.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Ids of jobs; `-` reads them from standard input, the first word of each line.
    #[arg(required = true, value_name = "JOB")]
    pub(crate) jobs: Vec<JobArg>,
    /// Print a JSON object for each job.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `reanalyze`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Reanalyze {
    /// Ids of jobs; `-` reads them from standard input, the first word of each line.
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<JobArg>,
    /// All jobs that the options below leave over; all of them, if there are none.
    #[arg(long, conflicts_with = "jobs")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
    /// How urgent it is: 0 (first) to 9 (last).
    #[arg(short, long, value_name = "0..9", default_value = "9", value_parser = parse_priority)]
    pub(crate) priority: Priority,
    /// Only say which jobs it would be.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Be done once the runs are accepted; print the jobs' ids.
    ///
    /// With --quiet nothing but the ids is printed, one a line.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// End after this long, answered or not; accepted runs go on at the server.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object for each job.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A job on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobArg {
    /// This one.
    Id(JobId),
    /// Those on standard input.
    Stdin,
}

impl FromStr for JobArg {
    type Err = imgsys_types::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            Ok(Self::Stdin)
        } else {
            text.parse().map(Self::Id)
        }
    }
}

fn parse_priority(text: &str) -> Result<Priority, &'static str> {
    text.parse()
        .ok()
        .and_then(Priority::new)
        .ok_or("a priority is 0 (first) to 9 (last)")
}

fn parse_percent(text: &str) -> Result<f64, &'static str> {
    let number = text
        .strip_suffix('%')
        .unwrap_or(text)
        .trim_end()
        .parse()
        .ok();
    number
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or("a confidence is 0 to 100 percent")
}

fn parse_state(text: &str) -> Result<JobState, &'static str> {
    [JobState::Queued, JobState::Done, JobState::Failed]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or("a state is queued, done or failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse_percent("80%"), Ok(80.0));
        assert!(parse_percent("101").is_err() && parse_percent("NaN").is_err());
        assert_eq!(parse_state("done"), Ok(JobState::Done));
        assert!(parse_priority("10").is_err() && parse_priority("-1").is_err());
    }
}
