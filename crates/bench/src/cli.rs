//! The commands of `imgsys-bench`.

use crate::{
    bench::{Bench, Options, say},
    figures::Figures,
    groups::{GROUPS, Group},
    image::Images,
    load::{self, Plan, Until},
    machine, place,
    report::{Report, markdown},
    scale::Scale,
    stats::float,
    warm::{self, Warm},
    wire::Wire,
};
use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use imgsys_types::Priority;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

/// When a quick benchmark begins no more groups: the longest takes less than what is left of its three
/// minutes.
const QUICK: Duration = Duration::from_secs(150);

/// Measures the whole system, beside the Python system that does the same, and writes a report.
#[derive(Debug, Parser)]
#[command(name = "imgsys-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and hold the figures against what is demanded
    Run(Run),
    /// Put a load on a server that runs
    Load(Load),
    /// Plan for more than one machine, by what an image was measured to cost
    Scale(Scale),
    /// Write the table of docs/performance.md, and its plots, from a report
    Figures(Figures),
    /// List the groups of rows
    List,
}

#[derive(Debug, Args)]
struct Run {
    /// Groups of rows; all if none is given. The rows of others are kept as they are in the report
    groups: Vec<String>,
    /// Only the groups, the repetitions and the time that fit into three minutes
    #[arg(long)]
    quick: bool,
    /// How often each load is put on each system [default: 3; quick: 1]
    #[arg(long)]
    repetitions: Option<usize>,
    /// Seconds of each load [default: 6; quick: 2]
    #[arg(long)]
    seconds: Option<u64>,
    /// Leave free memory as it is, rather than fill the kernel's cache first, as on a machine that has
    /// been up for a while; so does --quick
    #[arg(long)]
    cold: bool,
    /// Let ours keep Celery's results of tasks, as it does unless it is told otherwise; the peer keeps none
    #[arg(long)]
    celery_results: bool,
    /// The program that starts the peer
    #[arg(long)]
    peer: Option<PathBuf>,
    /// The folder of the report
    #[arg(long, default_value = "target/bench")]
    report: PathBuf,
}

#[derive(Debug, Args)]
struct Load {
    /// The server, as 127.0.0.1:7450
    address: String,
    /// It is the peer's
    #[arg(long)]
    peer: bool,
    /// Bytes of an image
    #[arg(long, default_value_t = 10_000)]
    bytes: usize,
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Images under way on each connection
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// Images a second of all connections together: an open loop
    #[arg(long)]
    rate: Option<u32>,
    /// Seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Does what the command line says. An error is told on standard error.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let done = match &cli.command {
        Command::Run(options) => options.run(),
        Command::Load(options) => options.run(),
        Command::Scale(options) => options.run(),
        Command::Figures(options) => options.run(),
        Command::List => {
            for group in GROUPS {
                println!("{:<10} {}", group.name, group.about);
            }
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("imgsys-bench: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn run(&self) -> anyhow::Result<()> {
        let groups = self.chosen()?;
        let (repetitions, seconds) = if self.quick { (1, 2) } else { (3, 6) };
        let options = Options {
            repetitions: self.repetitions.unwrap_or(repetitions).max(1),
            time: Duration::from_secs(self.seconds.unwrap_or(seconds).max(1)),
            peer: self.peer.clone(),
            celery_results: self.celery_results,
        };
        let place = place::make()?;
        let warm = self.warm()?;
        let mut report = Report::default();
        if !self.groups.is_empty() {
            report = Report::earlier(&self.report);
        }
        report.machine = format!(
            "{}{}{}; loads of {} s, medians of {}.",
            machine::describe(),
            if warm.is_some() {
                "; memory in use before"
            } else {
                ""
            },
            if self.celery_results {
                "; Celery's results kept"
            } else {
                ""
            },
            options.time.as_secs(),
            options.repetitions
        );
        let mut bench = Bench::new(options, report);
        let (begun, mut failed, mut late) = (Instant::now(), Vec::new(), Vec::new());
        for group in groups {
            if self.quick && begun.elapsed() > QUICK {
                late.push(group.name);
                continue;
            }
            say(format!("-- {}: {}", group.name, group.about));
            bench.report.facts.retain(|fact| fact.group != group.name);
            // The others may still be measured.
            if let Err(problem) = (group.run)(&mut bench) {
                eprintln!("imgsys-bench: {}: {problem:#}", group.name);
                failed.push(group.name);
            }
            // One that is interrupted has its rows too.
            bench.report.write(&self.report)?;
        }
        if self.quick {
            let left = GROUPS.iter().filter(|group| !group.quick);
            let left: Vec<_> = left.map(|group| group.name).collect();
            say(format!(
                "left out, for they take longer: {}",
                left.join(", ")
            ));
        }
        if !late.is_empty() {
            say(format!("left out, for time is up: {}", late.join(", ")));
        }
        bench.stop();
        drop((warm, place));
        say(format!(
            "measured in {:.0} s",
            begun.elapsed().as_secs_f64()
        ));
        println!("{}", markdown(&bench.report));
        say(format!("the report is in {}", self.report.display()));
        if failed.is_empty() {
            return Ok(());
        }
        bail!("not measured: {}", failed.join(", "));
    }

    fn warm(&self) -> anyhow::Result<Option<Warm>> {
        if self.cold || self.quick {
            return Ok(None);
        }
        let warm = warm::memory()?;
        say(format!("filled {} MB of memory", warm.bytes / 1_000_000));
        Ok(Some(warm))
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Group>> {
        if self.groups.is_empty() {
            return Ok(GROUPS
                .iter()
                .filter(|group| group.quick || !self.quick)
                .collect());
        }
        for name in &self.groups {
            if !GROUPS.iter().any(|group| group.name == name) {
                bail!("there is no group {name:?}: imgsys-bench list shows them all");
            }
        }
        let chosen = |group: &&Group| self.groups.iter().any(|name| name == group.name);
        Ok(GROUPS.iter().filter(chosen).collect())
    }
}

impl Load {
    fn run(&self) -> anyhow::Result<()> {
        let window = if self.rate.is_some() {
            usize::MAX
        } else {
            self.window
        };
        let outcome = load::put(Plan {
            address: self.address.clone(),
            wire: if self.peer { Wire::Peer } else { Wire::Imgsys },
            images: Arc::new(Images::bitmaps(self.bytes)),
            priority: Priority::default(),
            connections: self.connections,
            window,
            rate: self.rate,
            known: 0,
            until: Until::After(Duration::from_secs(self.seconds)),
        })?;
        let [p50, p95, p99] = [500, 950, 990].map(|permille| outcome.times.at(permille));
        println!(
            "{} images, {:.0} a second, p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms",
            outcome.ended,
            float(outcome.ended) / outcome.wall.as_secs_f64()
        );
        Ok(())
    }
}
