//! Random faults, one after another, while a second hand ends programs at random.

use crate::{
    cases::{CASES, Case, Skipped},
    chance::Chance,
    report::Report,
    run::{conclude, keep_logs},
    scene::{Scene, Stage},
};
use anyhow::ensure;
use imgsys_local::Service;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

/// Keeps the log of what happens.
#[derive(Debug, Clone, Copy)]
struct Log(Instant);

impl Log {
    fn write(self, what: &str) {
        println!("{:>7.2} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Breaks things for so long, then looks whether all is as it must be. Every event is printed.
#[must_use]
pub fn run(seed: u64, duration: Duration, folder: &Path) -> Report {
    let mut report = Report::new("chaos");
    println!(
        "chaos: make chaos SEED={seed} DURATION={} repeats these events",
        duration.as_secs()
    );
    if let Err(problem) = attempt(seed, duration, folder, &mut report) {
        report.failures.push(format!("{problem:#}"));
    }
    report
}

fn attempt(
    seed: u64,
    duration: Duration,
    folder: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut stage = Stage::new(seed)?;
    stage.links = true;
    stage.tokens = false;
    stage.supervised = true;
    stage.set("server.drain", "1s");
    stage.delay = Duration::from_millis(10);
    stage.pace = Duration::from_millis(40);
    let mut scene = Scene::start(stage)?;
    scene.load()?;
    let log = Log(Instant::now());
    let stop = AtomicBool::new(false);
    let storm = thread::scope(|threads| {
        let second = threads.spawn(|| kill_at_random(&scene, seed, &stop, log));
        let done = act_at_random(&scene, seed, duration, log);
        stop.store(true, Ordering::Relaxed);
        ensure!(second.join().is_ok(), "the second hand panicked");
        done
    });
    log.write("calm");
    start_all(&scene)?;
    let done = conclude(&mut scene, report);
    log.write("looked at everything");
    if storm.is_err() || done.is_err() || !report.failures.is_empty() {
        keep_logs(&scene, "chaos", folder);
    }
    storm?;
    done
}

/// Faults of the table, one after another.
fn act_at_random(scene: &Scene, seed: u64, duration: Duration, log: Log) -> anyhow::Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.in_chaos).collect();
    let mut chance = Chance::new(seed);
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let Some(case) = chance.pick(&cases) else {
            anyhow::bail!("there are no cases");
        };
        log.write(case.name);
        if let Err(problem) = (case.act)(scene) {
            if problem.is::<Skipped>() {
                continue;
            }
            // A program that the second hand ended while it was being started is started anew.
            if problem.downcast_ref::<imgsys_local::Error>().is_none() {
                return Err(problem.context(case.name));
            }
            log.write(&format!("{} was disturbed", case.name));
            start_all(scene)?;
        }
        sleep(chance.between(Duration::ZERO, Duration::from_millis(1500)));
    }
    Ok(())
}

/// Ends one of our programs every few seconds, whatever else happens.
fn kill_at_random(scene: &Scene, seed: u64, stop: &AtomicBool, log: Log) {
    let mut chance = Chance::new(!seed);
    let programs = programs(scene);
    while !stop.load(Ordering::Relaxed) {
        sleep(chance.between(Duration::from_millis(500), Duration::from_secs(4)));
        let Some(program) = chance.pick(&programs) else {
            return;
        };
        if chance.one_in(2) {
            log.write(&format!("  {} is killed", program.name()));
            program.kill();
        } else {
            log.write(&format!("  {} is asked to stop", program.name()));
            program.stop();
        }
        sleep(chance.between(Duration::ZERO, Duration::from_millis(500)));
        // Whoever else ends it meanwhile starts it too.
        _ = program.start();
    }
}

fn programs(scene: &Scene) -> Vec<&Service> {
    let stack = scene.stack();
    [stack.server(), stack.persister()]
        .into_iter()
        .chain(stack.workers())
        .collect()
}

/// Starts whatever does not run.
fn start_all(scene: &Scene) -> anyhow::Result<()> {
    scene.stack().redis().start()?;
    scene.stack().postgres().start()?;
    for program in programs(scene) {
        while let Err(problem) = program.start() {
            eprintln!("imgsys-faults: {problem}");
            sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
