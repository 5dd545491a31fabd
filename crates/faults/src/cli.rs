//! The commands of `imgsys-faults`.

use crate::{
    cases::{CASES, Case},
    chance::Chance,
    chaos,
    peer::Peer,
    report::{self, HEADER, Report},
    series::Series,
};
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Breaks the whole system in every way that is known, and checks that nothing was lost.
#[derive(Debug, Parser)]
#[command(
    name = "imgsys-faults",
    version,
    after_help = "Exit codes: 0 nothing was lost, 1 something was not as it must be, 2 usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run cases and print a table
    Run(Run),
    /// Random faults for a while
    Chaos(Chaos),
    /// List the cases
    List,
}

#[derive(Debug, Args)]
struct Run {
    /// Cases, or what their names begin with; all if none is given
    cases: Vec<String>,
    /// Repeats what the clients send
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the list of results goes
    #[arg(long, default_value = "target/faults/report.json")]
    report: PathBuf,
    /// The program that breaks the peer, whose losses are put beside
    #[arg(long)]
    peer: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Chaos {
    /// Repeats the events; by default others each time
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds
    #[arg(long, default_value_t = 300)]
    duration: u64,
    /// Where the result goes
    #[arg(long, default_value = "target/faults/chaos.json")]
    report: PathBuf,
}

/// Does what the command line says. An error is told on standard error.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let well = match &cli.command {
        Command::Run(options) => options.run(),
        Command::Chaos(options) => options.run(),
        Command::List => {
            for case in CASES {
                println!("{:<29} {}", case.name, case.about);
            }
            Ok(true)
        }
    };
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("imgsys-faults: {problem:#}");
            ExitCode::from(2)
        }
    }
}

impl Run {
    fn run(&self) -> anyhow::Result<bool> {
        let cases = self.chosen()?;
        let peer = self.peer.as_deref().and_then(Peer::find);
        let start = Instant::now();
        let reports = Series::new(&cases, self.seed, &self.report, peer.as_ref()).run()?;
        println!("{HEADER}");
        for report in &reports {
            println!("{}", report.row());
            tell(report);
        }
        let well = reports.iter().filter(|report| report.is_well()).count();
        let skipped = reports.iter().filter(|report| report.skipped.is_some());
        println!(
            "{} of {} cases well, {} of them skipped, in {} s; {}",
            well,
            reports.len(),
            skipped.count(),
            start.elapsed().as_secs(),
            self.report.display()
        );
        Ok(well == reports.len())
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Case>> {
        if self.cases.is_empty() {
            return Ok(CASES.iter().collect());
        }
        let mut chosen = Vec::new();
        for name in &self.cases {
            let exact: Vec<_> = CASES.iter().filter(|case| case.name == name).collect();
            let begin = CASES.iter().filter(|case| case.name.starts_with(name));
            let found = if exact.is_empty() {
                begin.collect()
            } else {
                exact
            };
            if found.is_empty() {
                bail!("there is no case {name:?}: imgsys-faults list shows them all");
            }
            chosen.extend(found);
        }
        Ok(chosen)
    }
}

impl Chaos {
    fn run(&self) -> anyhow::Result<bool> {
        let folder = self.report.parent().map(PathBuf::from).unwrap_or_default();
        let seed = self.seed.unwrap_or_else(|| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            // Short enough to be read out.
            Chance::new(u64::from(now.subsec_nanos())).below(1_000_000)
        });
        let report = chaos::run(seed, Duration::from_secs(self.duration), &folder);
        println!("{HEADER}\n{}", report.row());
        tell(&report);
        let well = report.is_well();
        write(&self.report, &[report])?;
        Ok(well)
    }
}

fn tell(report: &Report) {
    for failure in &report.failures {
        println!("    {failure}");
    }
}

fn write(file: &std::path::Path, reports: &[Report]) -> anyhow::Result<()> {
    report::write(file, reports).with_context(|| format!("writing {}", file.display()))
}
