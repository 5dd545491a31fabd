//! What clients that say nothing take.

use crate::{
    bench::{Bench, FSYNC, say},
    image::Images,
    load::{self, Until},
    processes,
    report::Row,
    stats::{float, median},
    system::{System, greeted},
};
use anyhow::{Context, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{net::TcpStream, sync::Arc, time::Duration};

const IDLE: usize = 5000;
/// Files of this program beside them, at most.
const OTHER_FILES: u64 = 200;
const KB: f64 = 1e3;

/// Memory of idle connections, and how long an image takes beside them, in turns with and without.
pub(super) fn connections(bench: &mut Bench) -> anyhow::Result<()> {
    let room = may_open(IDLE as u64 + OTHER_FILES)?;
    ensure!(
        room,
        "{IDLE} connections need as many open files: ulimit -n"
    );
    let (repetitions, time) = (bench.options.repetitions, bench.options.time / 2);
    let images = Arc::new(Images::bitmaps(10_000));
    let system = bench.system(FSYNC)?;
    let server = system.pid("server")?;
    // Everything gets warm.
    p50(system, &images, Duration::from_secs(1))?;
    let (mut each, mut alone, mut beside) = (0.0, Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        alone.push(p50(system, &images, time)?);
        let before = processes::resident(server)?;
        let idle = connect(system.address())?;
        if repetition == 0 {
            let grown = processes::resident(server)?.saturating_sub(before);
            each = float(grown) / float(IDLE as u64);
        }
        beside.push(p50(system, &images, time)?);
        drop(idle);
        say(format!(
            "p50 {alone:.2?} ms alone, {beside:.2?} ms beside {IDLE}"
        ));
    }
    let [alone, beside] = [alone, beside].map(|all| median(all).unwrap_or_default());
    bench.fact(
        "idle",
        format!("round trip of 10 KB, {FSYNC}, p50: {alone:.2} ms alone, {beside:.2} ms beside {IDLE} idle connections"),
    );
    let name = "5 000 idle connections: memory each (at most 12 KB)";
    bench.put(Row::at_most(name, "KB", each / KB, 12.0));
    let name = "5 000 idle connections: p50 of others against none (at most 1.2 times)";
    bench.put(Row::at_most(name, "times", beside / alone, 1.2));
    Ok(())
}

/// The median of how long an image takes, one at a time.
fn p50(system: &mut System, images: &Arc<Images>, time: Duration) -> anyhow::Result<f64> {
    let outcome = load::put(system.plan(images, (1, 1), Until::After(time)))?;
    system.drain(outcome.ended)?;
    Ok(outcome.times.at(500))
}

/// Clients that have said hello and want nothing.
fn connect(address: &str) -> anyhow::Result<Vec<TcpStream>> {
    let clients = (0..IDLE)
        .map(|number| greeted(address).with_context(|| format!("connecting idle client {number}")));
    clients.collect()
}

/// Whether this process may have so many files open; it takes leave to, if it can.
fn may_open(files: u64) -> anyhow::Result<bool> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|most| most >= files) {
        return Ok(true);
    }
    if limit.maximum.is_some_and(|most| most < files) {
        return Ok(false);
    }
    limit.current = Some(files);
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    Ok(true)
}
