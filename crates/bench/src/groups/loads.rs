//! Loads on ours and on the peer.

use crate::{
    bench::{Bench, Cell, FSYNC, NONE, PEER, say},
    image::Images,
    limits::{self, Limit},
    load::{self, Plan, Until},
    redis::Redis,
    report::{Row, Run},
    stats::float,
};
use anyhow::Context;
use std::sync::Arc;

const SMALL: Cell = Cell {
    name: "10 KB, C=8 W=16",
    bytes: 10_000,
    clients: (8, 16),
    systems: &[NONE, FSYNC, PEER],
};
const MIDDLE: Cell = Cell {
    name: "100 KB, C=8 W=16",
    bytes: 100_000,
    clients: (8, 16),
    systems: &[NONE, PEER],
};
const LARGE: Cell = Cell {
    name: "1 MB, C=8 W=16",
    bytes: 1_000_000,
    clients: (8, 16),
    systems: &[NONE, PEER],
};
const MANY: Cell = Cell {
    name: "10 KB, C=64 W=16",
    bytes: 10_000,
    clients: (64, 16),
    systems: &[NONE, PEER],
};
/// Run beside the one above, for what the machine gives changes from minute to minute.
const FEW: Cell = Cell {
    name: "10 KB, C=8 W=16, beside C=64",
    systems: &[NONE],
    ..SMALL
};
const TRIP: Cell = Cell {
    name: "10 KB, C=1 W=1",
    bytes: 10_000,
    clients: (1, 1),
    systems: &[NONE, FSYNC, PEER],
};

fn rate(run: &Run) -> f64 {
    run.images_per_s
}

fn cpu(run: &Run) -> f64 {
    run.cpu_us_all / 1e3
}

/// The median of ours, and of the peer if it was there.
fn both(
    bench: &Bench,
    cell: &Cell,
    ours: &str,
    figure: impl Fn(&Run) -> f64 + Copy,
) -> anyhow::Result<(f64, Option<f64>)> {
    let median = |system| bench.report.median(cell.name, system, figure);
    let ours = median(ours).with_context(|| format!("no run of {}", cell.name))?;
    Ok((ours, median(PEER)))
}

pub(super) fn small(bench: &mut Bench) -> anyhow::Result<()> {
    bench.compare(&SMALL)?;
    for (system, durability, least) in [(NONE, "none", 12.0), (FSYNC, "fsync", 8.0)] {
        let (ours, peer) = both(bench, &SMALL, system, cpu)?;
        let name = format!("CPU an image, 10 KB, C=8 W=16, durability {durability}");
        let row = Row::less(&name, "ms", ours, peer, least);
        bench.put(row.by(SMALL.name, system).by(SMALL.name, PEER));
        let (ours, peer) = both(bench, &SMALL, system, rate)?;
        let name = format!("images/s, 10 KB, C=8 W=16, durability {durability}");
        let row = Row::more(&name, "1/s", ours, peer, least);
        bench.put(row.by(SMALL.name, system).by(SMALL.name, PEER));
    }
    let (spread, _) = both(bench, &SMALL, NONE, |run| run.p99_ms / run.p50_ms)?;
    let name = "p99 / p50, 10 KB, C=8 W=16, durability none (at most 3)";
    bench.put(Row::at_most(name, "", spread, 3.0).by(SMALL.name, NONE));
    Ok(())
}

pub(super) fn middle(bench: &mut Bench) -> anyhow::Result<()> {
    bench.compare(&MIDDLE)?;
    let (ours, peer) = both(bench, &MIDDLE, NONE, rate)?;
    let name = "images/s, 100 KB, C=8 W=16, durability none";
    let row = Row::more(name, "1/s", ours, peer, 10.0);
    bench.put(row.by(MIDDLE.name, NONE).by(MIDDLE.name, PEER));
    Ok(())
}

pub(super) fn large(bench: &mut Bench) -> anyhow::Result<()> {
    bench.compare(&LARGE)?;
    let (ours, peer) = both(bench, &LARGE, NONE, rate)?;
    let name = "images/s, 1 MB, C=8 W=16, durability none";
    let row = Row::more(name, "1/s", ours, peer, 3.0);
    bench.put(row.by(LARGE.name, NONE).by(LARGE.name, PEER));
    let (ours, peer) = both(bench, &LARGE, NONE, cpu)?;
    let name = "CPU an image, 1 MB, C=8 W=16, durability none";
    let row = Row::less(name, "ms", ours, peer, 3.0);
    bench.put(row.by(LARGE.name, NONE).by(LARGE.name, PEER));
    Ok(())
}

pub(super) fn many(bench: &mut Bench) -> anyhow::Result<()> {
    bench.compare(&FEW)?;
    bench.compare(&MANY)?;
    let (few, _) = both(bench, &FEW, NONE, rate)?;
    let (many, _) = both(bench, &MANY, NONE, rate)?;
    let name = "images/s, 10 KB, C=64 W=16 against C=8, durability none";
    let row = Row::against(name, "1/s", many, few, 0.9);
    bench.put(row.by(MANY.name, NONE).by(FEW.name, NONE));
    Ok(())
}

pub(super) fn trip(bench: &mut Bench) -> anyhow::Result<()> {
    bench.compare(&TRIP)?;
    let (ours, peer) = both(bench, &TRIP, NONE, |run| run.p50_ms)?;
    let name = "round trip p50, 10 KB, C=1 W=1, durability none";
    let row = Row::less(name, "ms", ours, peer, 5.0);
    bench.put(row.by(TRIP.name, NONE).by(TRIP.name, PEER));
    Ok(())
}

/// An open loop at half the rate that a closed one came to: what a user waits on a machine that is
/// not full.
pub(super) fn open(bench: &mut Bench) -> anyhow::Result<()> {
    let (ours, _) = both(bench, &SMALL, NONE, rate)?;
    let images = Arc::new(Images::bitmaps(SMALL.bytes));
    let time = bench.options.time;
    let mut all = Vec::new();
    for system in bench.systems()? {
        let Some(_) = system.stack() else { continue };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = (ours / 2.0) as u32;
        let plan = Plan {
            rate: Some(rate),
            ..system.plan(&images, (8, 1 << 20), Until::After(time))
        };
        let outcome = load::put(plan)?;
        system.drain(outcome.ended)?;
        let times = [500, 950, 990].map(|permille| outcome.times.at(permille));
        all.push((system.name, rate, times));
    }
    for (name, rate, [p50, p95, p99]) in all {
        bench.fact(
            "open",
            format!("{name}, open loop of {rate} images of 10 KB a second: p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms from when each was due"),
        );
    }
    Ok(())
}

/// Images by which the commands that Redis is given are counted.
const COUNTED: u64 = 4000;

/// What the machine can do, and how much of it an image of 10 KB needs.
pub(super) fn limits(bench: &mut Bench) -> anyhow::Result<()> {
    let images = Arc::new(Images::bitmaps(SMALL.bytes));
    let system = bench.systems()?.first_mut().context("no system")?;
    let url = system.stack().context("ours")?.redis().url();
    let mut redis = Redis::connect(&url)?;
    let before = redis.calls()?;
    let plan = system.plan(&images, SMALL.clients, Until::Sent(COUNTED / 8));
    let done = load::put(plan)?.ended;
    system.drain(done)?;
    let after = redis.calls()?;
    let each = |(name, calls): (&String, &u64)| {
        let calls = calls - before.get(name).unwrap_or(&0);
        (name.clone(), float(calls) / float(done))
    };
    let calls: Vec<(String, f64)> = after.iter().map(each).collect();
    let commands: f64 = calls.iter().map(|(_, calls)| calls).sum();
    let mut often: Vec<_> = calls
        .into_iter()
        .filter(|(_, calls)| *calls >= 0.01)
        .collect();
    often.sort_unstable_by(|(_, a), (_, b)| b.total_cmp(a));
    let often: Vec<_> = often
        .iter()
        .map(|(name, calls)| format!("{name} {calls:.2}"))
        .collect();
    let list = often.join(", ");
    bench.fact(
        "limits",
        format!("Redis' commands an image, {commands:.1} in all: {list}"),
    );

    say("what the machine can do");
    let size = float(images.size() as u64);
    let needed = [commands, size, 2.0 * size, 1.0, 1.0, 2.0];
    let measured = limits::measure(images.size())?;
    let limits = measured.into_iter().zip(needed);
    let limits = limits.map(|((name, per_second, unit), per_image)| Limit {
        name: name.into(),
        per_second,
        unit: unit.into(),
        per_image,
        cell: SMALL.name.into(),
        // Only one of them is flushed.
        system: if name.contains("flushed") {
            FSYNC
        } else {
            NONE
        }
        .into(),
    });
    bench.report.limits = limits.collect();
    Ok(())
}
