//! On what it was measured.

use std::{env::consts, fs, thread};

/// The machine in a line: processor, cores, memory, kernel, how busy it is, and the build.
#[must_use]
pub(crate) fn describe() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (cpu, memory, load) = (
        read("/proc/cpuinfo"),
        read("/proc/meminfo"),
        read("/proc/loadavg"),
    );
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 = value(&memory, "MemTotal")
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default();
    format!(
        "{} ({}), {cores} cores, {} GiB of memory, Linux {}; load before it began: {}; {} build",
        value(&cpu, "model name"),
        consts::ARCH,
        kib >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default(),
        // The programs are those beside this one.
        if cfg!(debug_assertions) {
            "development"
        } else {
            "release"
        },
    )
}
