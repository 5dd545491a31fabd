//! The server's memory while it takes in large images.

use crate::{
    bench::{Bench, FSYNC},
    image::Images,
    load::{self, Until},
    processes,
    report::Row,
    stats::float,
};
use std::sync::Arc;

const CONNECTIONS: usize = 64;
/// The largest image that a server takes, as it is configured by default.
const BYTES: usize = 64 << 20;
const MB: f64 = 1e6;

/// The most that the server's memory comes to while many clients send as much as they may at once.
pub(super) fn large(bench: &mut Bench) -> anyhow::Result<()> {
    let images = Arc::new(Images::bitmaps(BYTES));
    let system = bench.system(FSYNC)?;
    let server = system.pid("server")?;
    processes::forget_peak(server)?;
    let before = processes::resident(server)?;
    let outcome = load::put(system.plan(&images, (CONNECTIONS, 1), Until::Sent(1)))?;
    let peak = processes::peak(server)?;
    system.drain(outcome.ended)?;
    let after = processes::resident(server)?;
    bench.fact(
        "uploads",
        format!(
            "{CONNECTIONS} uploads of 64 MiB at once, {FSYNC}: {:.0} MB a second; the server's memory {:.0} MB before, {:.0} MB at most, {:.0} MB after",
            float(outcome.ended * images.size() as u64) / MB / outcome.wall.as_secs_f64(),
            float(before) / MB,
            float(peak) / MB,
            float(after) / MB
        ),
    );
    let name = "64 connections sending 64 MiB each at once: server RSS (at most 128 MB)";
    bench.put(Row::at_most(name, "MB", float(peak) / MB, 128.0));
    Ok(())
}
