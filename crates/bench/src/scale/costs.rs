//! What an image costs.

use crate::report::{Report, Run};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// The loads of the report from which costs are taken.
const SMALL: &str = "10 KB, C=8 W=16";
const LARGE: &str = "1 MB, C=8 W=16";
const TRIP: &str = "10 KB, C=1 W=1";
/// By how many bytes the images of the first two differ, in MB.
const STEP: f64 = 0.99;

/// Microseconds of processor time, by part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    pub(super) server: f64,
    pub(super) worker: f64,
    pub(super) persister: f64,
    pub(super) redis: f64,
    pub(super) postgres: f64,
}

impl Parts {
    /// Of these runs, the middle ones.
    fn of(report: &Report, cell: &str, system: &str) -> anyhow::Result<Self> {
        let part = |name: &str| {
            let cpu = |run: &Run| run.cpu_us.get(name).copied().unwrap_or_default();
            median(report, cell, system, cpu)
        };
        Ok(Self {
            server: part("server")?,
            worker: part("worker")?,
            persister: part("persister")?,
            redis: part("redis")?,
            postgres: part("postgres")?,
        })
    }

    pub(super) fn sum(&self) -> f64 {
        self.server + self.worker + self.persister + self.redis + self.postgres
    }

    fn with(&self, other: &Self, both: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            server: both(self.server, other.server),
            worker: both(self.worker, other.worker),
            persister: both(self.persister, other.persister),
            redis: both(self.redis, other.redis),
            postgres: both(self.postgres, other.postgres),
        }
    }
}

/// All of it; nothing of an analysis is in here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Costs {
    /// On what they were measured.
    pub(super) machine: String,
    /// For how many cores all parts and the load were.
    pub(super) cores: f64,
    /// What an image of 10 KB takes that is to survive a power cut, many of them under way.
    pub(super) small_us: Parts,
    /// What each further megabyte takes.
    pub(super) megabyte_us: Parts,
    /// What the load took beside them, and how many images of 10 KB a second all came to.
    pub(super) load_us: f64,
    pub(super) images_per_s: f64,
    /// From sent to answered, where there is only one at a time, in milliseconds.
    pub(super) trip_ms: f64,
    /// What of the server's part is its one committing thread's. Not in the report.
    pub(super) committer_us: f64,
    /// Bytes that the database keeps of an image, and that it writes into its log. Not in the
    /// report.
    pub(super) row_bytes: f64,
    pub(super) log_bytes: f64,
    /// Bytes that a job takes in Redis while it waits. Not in the report.
    pub(super) waiting_bytes: f64,
}

impl Costs {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let reading = || format!("reading {}", file.display());
        let text = fs::read_to_string(file).with_context(reading)?;
        serde_json::from_str(&text).with_context(reading)
    }

    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Takes what a report has of them, to the microsecond.
    pub(super) fn take(&mut self, report: &Report) -> anyhow::Result<()> {
        const FSYNC: &str = "ours, fsync";
        const NONE: &str = "ours, none";
        let round = |parts: Parts| parts.with(&parts, |part, _| part.round());
        let small = Parts::of(report, SMALL, NONE)?;
        let large = Parts::of(report, LARGE, NONE)?;
        self.machine.clone_from(&report.machine);
        self.small_us = round(Parts::of(report, SMALL, FSYNC)?);
        // Between two loads in which chance differs, more bytes may seem to cost less.
        let each = |large: f64, small: f64| ((large - small) / STEP).max(0.0);
        self.megabyte_us = round(large.with(&small, each));
        self.load_us = median(report, SMALL, FSYNC, |run| run.load_cpu_us)?.round();
        self.images_per_s = median(report, SMALL, FSYNC, |run| run.images_per_s)?.round();
        self.trip_ms = median(report, TRIP, FSYNC, |run| run.p50_ms)?;
        Ok(())
    }

    /// What an image of so many bytes takes.
    pub(super) fn of(&self, bytes: f64) -> Parts {
        let more = (bytes - 1e4).max(0.0) / 1e6;
        let add = |small, megabyte: f64| small + more * megabyte;
        self.small_us.with(&self.megabyte_us, add)
    }

    /// What a single image takes longer than one among many would without lines: flushes, threads
    /// to wake up, batches of one.
    pub(super) fn still_us(&self) -> f64 {
        let Parts {
            server,
            worker,
            redis,
            ..
        } = self.small_us;
        (self.trip_ms * 1e3 - server - worker - redis).max(0.0)
    }
}

fn median(
    report: &Report,
    cell: &str,
    system: &str,
    figure: impl Fn(&Run) -> f64,
) -> anyhow::Result<f64> {
    let median = report.median(cell, system, figure);
    median.with_context(|| format!("the report has no run of {cell} on {system}"))
}
