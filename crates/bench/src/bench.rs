//! What all measurements share: the systems, and loads on them in turns.

use crate::{
    image::Images,
    load::{self, Outcome, Until},
    processes,
    report::{Fact, Report, Row, Run},
    stats::float,
    system::System,
};
use anyhow::Context;
use std::{
    fmt::Display,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// How a benchmark is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How often each load is put on each system.
    pub(crate) repetitions: usize,
    /// How long a load is.
    pub(crate) time: Duration,
    /// The program that starts the peer.
    pub(crate) peer: Option<PathBuf>,
    /// Whether ours keeps Celery's results of tasks.
    pub(crate) celery_results: bool,
}

/// A load that is put on systems in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Bytes of an image.
    pub(crate) bytes: usize,
    /// Connections, and images under way on each.
    pub(crate) clients: (usize, usize),
    /// The systems.
    pub(crate) systems: &'static [&'static str],
}

/// A benchmark that is under way.
#[derive(Debug)]
pub(crate) struct Bench {
    /// How it is run.
    pub(crate) options: Options,
    /// What came of it so far.
    pub(crate) report: Report,
    systems: Vec<System>,
    /// Those that have done their part. What they have written goes at the end only.
    retired: Vec<System>,
}

/// Ours, if what is accepted is to outlive only the death of a process: as with the peer.
pub(crate) const NONE: &str = "ours, none";
/// Ours, if what is accepted is to outlive a power cut.
pub(crate) const FSYNC: &str = "ours, fsync";
/// The Python system.
pub(crate) const PEER: &str = "peer";

impl Bench {
    /// Nothing is started yet.
    #[must_use]
    pub(crate) const fn new(options: Options, report: Report) -> Self {
        Self {
            options,
            report,
            systems: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// The systems that are compared, started if need be.
    pub(crate) fn systems(&mut self) -> anyhow::Result<&mut Vec<System>> {
        if self.systems.is_empty() {
            say("starting what is compared");
            let results = self.options.celery_results;
            self.systems.push(System::ours(NONE, "none", results)?);
            self.systems.push(System::ours(FSYNC, "fsync", results)?);
            if let Some(program) = &self.options.peer {
                self.systems.extend(System::peer(program)?);
            }
        }
        Ok(&mut self.systems)
    }

    /// The system of this name, among those that are compared.
    pub(crate) fn system(&mut self, name: &str) -> anyhow::Result<&mut System> {
        let found = self.systems()?.iter_mut().find(|known| known.name == name);
        found.with_context(|| format!("there is no {name:?}"))
    }

    /// Stops a system that is needed no more, and leaves its files where they are.
    pub(crate) fn retire(&mut self, system: System) {
        if let Some(stack) = system.stack() {
            stack.stop();
        }
        self.retired.push(system);
    }

    /// Stops all that was started, and removes what it has written.
    pub(crate) fn stop(&mut self) {
        self.systems.clear();
        self.retired.clear();
    }

    /// Adds to what is known of a group of rows.
    pub(crate) fn fact(&mut self, group: &str, text: impl Display) {
        say(&text);
        self.report.facts.push(Fact {
            group: group.into(),
            text: text.to_string(),
        });
    }

    /// Adds a row.
    pub(crate) fn put(&mut self, row: Row) {
        let holds = match row.holds {
            Some(true) => "holds",
            Some(false) => "FALLS SHORT",
            None => "skipped: there is no peer",
        };
        let ratio = row.ratio.unwrap_or_default();
        say(format!(
            "{}: {:.3} {}, {ratio:.2} of {}: {holds}",
            row.name, row.ours, row.unit, row.least
        ));
        self.report.put(row);
    }

    /// Puts the load on each of its systems in turns, and keeps the runs.
    pub(crate) fn compare(&mut self, cell: &Cell) -> anyhow::Result<()> {
        let options = self.options.clone();
        self.report.runs.retain(|run| run.cell != cell.name);
        let images = Arc::new(Images::bitmaps(cell.bytes));
        let mut runs = Vec::new();
        // The first is not counted: everything gets warm.
        for repetition in 0..=options.repetitions {
            for system in self.systems()? {
                if !cell.systems.contains(&system.name) {
                    continue;
                }
                let time = if repetition == 0 {
                    options.time / 4
                } else {
                    options.time
                };
                let run = run(system, cell, &images, (repetition, time))?;
                if repetition > 0 {
                    say(format!(
                        "{:<22} {:<12} {:8.0} images/s  p50 {:7.2}  p99 {:7.2} ms  CPU {:6.0} µs  others {:.2}",
                        run.cell,
                        run.system,
                        run.images_per_s,
                        run.p50_ms,
                        run.p99_ms,
                        run.cpu_us_all,
                        run.others_cores
                    ));
                    runs.push(run);
                }
            }
        }
        self.report.runs.extend(runs);
        Ok(())
    }
}

/// One load on one system.
fn run(
    system: &mut System,
    cell: &Cell,
    images: &Arc<Images>,
    (repetition, time): (usize, Duration),
) -> anyhow::Result<Run> {
    system.begin()?;
    // Nobody pays for what another has written.
    rustix::fs::sync();
    let (start, before) = (Instant::now(), (system.cpu(), processes::machine_cpu()));
    let load_before = processes::own_cpu();
    let Outcome { ended, wall, times } =
        load::put(system.plan(images, cell.clients, Until::After(time)))?;
    let drain = Instant::now();
    system.drain(ended)?;
    let drain_s = drain.elapsed().as_secs_f64();
    let (after, all) = (system.cpu(), processes::machine_cpu() - before.1);
    let load_cpu = processes::own_cpu() - load_before;
    let count = float(ended.max(1));
    let cpu = after
        .iter()
        .map(|(&part, cpu)| (part, cpu - before.0.get(part).unwrap_or(&0.0)));
    let cpu: Vec<_> = cpu.collect();
    let cpu_all: f64 = cpu.iter().map(|(_, cpu)| cpu).sum();
    Ok(Run {
        cell: cell.name.into(),
        system: system.name.into(),
        repetition,
        images: ended,
        images_per_s: float(ended) / wall.as_secs_f64(),
        p50_ms: times.at(500),
        p95_ms: times.at(950),
        p99_ms: times.at(990),
        cpu_us: cpu
            .iter()
            .map(|&(part, cpu)| (part.into(), cpu * 1e6 / count))
            .collect(),
        cpu_us_all: cpu_all * 1e6 / count,
        load_cpu_us: load_cpu * 1e6 / count,
        drain_s,
        others_cores: (all - cpu_all - load_cpu).max(0.0) / start.elapsed().as_secs_f64(),
    })
}

/// Tells how far it is.
pub(crate) fn say(what: impl Display) {
    eprintln!("{what}");
}
