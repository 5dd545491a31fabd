//! What jobs that wait cost those that are done meanwhile, and a server that starts with them.
//!
//! So many jobs wait all the time: clients have them under way, and submit another for each that
//! ends. What is counted is then the whole way of an image, from its submission past all that wait
//! to its row. They wait as they would in a real backlog, `dispatch_window` of them in Redis, the
//! rest in the spool.

use crate::{
    bench::{Bench, NONE, say},
    image::Images,
    load::{Load, Plan, Until},
    processes,
    report::{Row, Run},
    stats::float,
    system::{System, answer, greeted, noop},
    wire::{Submits, Wire},
};
use anyhow::{bail, ensure};
use imgsys_proto::ServerMessage;
use imgsys_types::Priority;
use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const BYTES: usize = 10_000;
const CLIENTS: usize = 20;
/// What each client has under way beyond its share of those that wait: 120 in all.
const WINDOW: usize = 6;
/// How many wait, and how a row calls it.
const LEVELS: [(u64, &str); 3] = [(1000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")];
const MB: f64 = 1e6;
/// Images until what is counted has become steady.
const WARM: u64 = 3000;

/// What an image costs while others wait, beside none.
pub(super) fn waiting(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.runs.retain(|run| !run.cell.ends_with(CELL));
    let mut costs = Vec::new();
    // None waits, at first and at last: what the machine gives changes from minute to minute.
    for level in [0]
        .into_iter()
        .chain(LEVELS.map(|(level, _)| level))
        .chain([0])
    {
        let mut system = System::start(NONE, noop().set("server.durability", "none"))?;
        let load = steady(bench, &mut system, level)?;
        // What waits is not to be done while the clients are on their way out.
        system.ours_stack()?.workers()[0].stop();
        load.abandon()?;
        if level == LEVELS[2].0 {
            start(bench, &mut system, level)?;
        }
        bench.retire(system);
        let cost = bench
            .report
            .median(&cell(level), NONE, |run| run.cpu_us_all);
        costs.push((level, cost.unwrap_or_default()));
    }
    // The last is the median of both runs.
    let none = costs.pop().map(|(_, cost)| cost).unwrap_or_default();
    for (level, name) in LEVELS {
        let cost = costs.iter().find(|(known, _)| *known == level);
        let cost = cost.map(|(_, cost)| *cost).unwrap_or_default();
        let name = format!("{name} jobs waiting: CPU an image against none (at most 1.2 times)");
        let row = Row::at_most(&name, "times", cost / none, 1.2);
        bench.put(row.by(&cell(level), NONE).by(&cell(0), NONE));
    }
    Ok(())
}

/// How the runs of this group are called, behind their number.
pub(crate) const CELL: &str = "jobs waiting, 10 KB";

fn cell(level: u64) -> String {
    format!("{level} {CELL}")
}

/// Has so many jobs wait, then measures while they do. The load goes on.
fn steady(bench: &mut Bench, system: &mut System, level: u64) -> anyhow::Result<Load> {
    let images = Arc::new(Images::bitmaps(BYTES));
    make_known(system.address(), &images)?;
    let worker = &system.ours_stack()?.workers()[0];
    worker.stop();
    let share = level / CLIENTS as u64;
    let window = WINDOW + usize::try_from(share)?;
    let begun = Instant::now();
    let load = Load::start(Plan {
        // A million images would be written for nothing: those that wait are all the same one.
        known: share,
        ..system.plan(&images, (CLIENTS, window), Until::After(Duration::MAX))
    })?;
    load.await_accepted((CLIENTS * window) as u64)?;
    let filled = begun.elapsed().as_secs_f64();
    worker.start()?;
    system.look();
    await_ended(&load, load.counts().ended() + WARM)?;
    for repetition in 1..=bench.options.repetitions {
        let run = interval(bench, system, &load, (level, repetition))?;
        say(format!(
            "{level:7} jobs wait: {:5.0} images/s, CPU {:4.0} µs, others {:.2}",
            run.images_per_s, run.cpu_us_all, run.others_cores
        ));
        bench.report.runs.push(run);
    }
    if level > 0 {
        let status = format!("{level} jobs submitted in {filled:.1} s, without their bytes");
        bench.fact("backlog", status);
    }
    Ok(load)
}

/// What is done in some seconds, and what it takes.
fn interval(
    bench: &Bench,
    system: &System,
    load: &Load,
    (level, repetition): (u64, usize),
) -> anyhow::Result<Run> {
    let (start, ended) = (Instant::now(), load.counts().ended());
    let before = (system.cpu(), processes::machine_cpu(), processes::own_cpu());
    thread::sleep(bench.options.time);
    let ended = load.counts().ended() - ended;
    let after = (system.cpu(), processes::machine_cpu(), processes::own_cpu());
    let wall = start.elapsed().as_secs_f64();
    ensure!(ended > 0, "no image ended while {level} wait");
    let each = |cpu: f64| cpu * 1e6 / float(ended);
    let part = |(&part, cpu): (&&'static str, &f64)| {
        (
            part.to_owned(),
            each(cpu - before.0.get(part).unwrap_or(&0.0)),
        )
    };
    let cpu_us: BTreeMap<_, _> = after.0.iter().map(part).collect();
    let all: f64 = cpu_us.values().sum();
    let load_cpu_us = each(after.2 - before.2);
    Ok(Run {
        cell: cell(level),
        system: system.name.into(),
        repetition,
        images: ended,
        images_per_s: float(ended) / wall,
        p50_ms: 0.0,
        p95_ms: 0.0,
        p99_ms: 0.0,
        cpu_us,
        cpu_us_all: all,
        load_cpu_us,
        drain_s: 0.0,
        others_cores: (after.1 - before.1 - (all + load_cpu_us) * float(ended) / 1e6).max(0.0)
            / wall,
    })
}

fn await_ended(load: &Load, images: u64) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    while load.counts().ended() < images {
        ensure!(Instant::now() < until, "results don't come");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sends the image that is submitted without its bytes later.
fn make_known(address: &str, images: &Images) -> anyhow::Result<()> {
    let submits = Submits::new(Wire::Imgsys, images.size(), Priority::default(), false)?;
    let mut frame = Vec::new();
    // No client of a load has this number.
    submits.write(u64::from(u32::MAX) << 32, images, Images::KNOWN, &mut frame);
    frame.extend_from_slice(images.shared());
    frame.extend_from_slice(&Images::KNOWN);
    let mut stream = greeted(address)?;
    stream.write_all(&frame)?;
    match answer(&mut stream)? {
        ServerMessage::Accepted(_) => Ok(()),
        other => bail!("the image is not accepted: {other:?}"),
    }
}

/// Starts the server anew, with all the jobs that wait in its spool.
fn start(bench: &mut Bench, system: &mut System, level: u64) -> anyhow::Result<()> {
    let server = system.ours_stack()?.server();
    server.stop();
    let begun = Instant::now();
    server.start()?;
    let time = begun.elapsed().as_secs_f64();
    system.look();
    let server = system.pid("server")?;
    let ready = processes::resident(server)?;
    // It asks Redis and the database about each of them then.
    let settled = settle(server);
    let peak = processes::peak(server)?;
    bench.fact(
        "backlog",
        format!(
            "a server that starts with {level} jobs in its spool: ready after {time:.2} s with {:.0} MB; when it has asked about each, {settled:.0} s later, {:.0} MB, {:.0} MB at most",
            float(ready) / MB,
            float(processes::resident(server)?) / MB,
            float(peak) / MB
        ),
    );
    let name = "spool with 1 M records: start-up (at most 5 s)";
    bench.put(Row::at_most(name, "s", time, 5.0));
    let name = "spool with 1 M records: memory (at most 200 MB)";
    bench.put(Row::at_most(name, "MB", float(peak) / MB, 200.0));
    Ok(())
}

/// Waits until a process has little to do; seconds until then.
fn settle(pid: u32) -> f64 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        let before = processes::cpu(&[pid]);
        thread::sleep(Duration::from_secs(1));
        if processes::cpu(&[pid]) - before < 0.1 {
            break;
        }
    }
    begun.elapsed().as_secs_f64()
}
