//! What processes take, as /proc tells it.

use crate::stats::float;
use anyhow::Context;
use std::{fs, process, time::Duration};

/// A tick of the times in /proc/PID/stat; Linux never tells another to programs.
const TICK: Duration = Duration::from_millis(10);

/// The processes that these have started, and so on, and these.
#[must_use]
pub(crate) fn tree(roots: &[u32]) -> Vec<u32> {
    let mut all = Vec::new();
    let mut next = roots.to_vec();
    while let Some(pid) = next.pop() {
        all.push(pid);
        // Each thread has children of its own.
        for thread in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            next.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// The processor time of these and all below them, in seconds, those that have ended included.
#[must_use]
pub(crate) fn cpu(roots: &[u32]) -> f64 {
    // A process that ends meanwhile is counted with its parent the next time.
    let ticks: u64 = tree(roots)
        .into_iter()
        .filter_map(|pid| ticks(pid, 4))
        .sum();
    TICK.as_secs_f64() * float(ticks)
}

/// The processor time of this process alone, in seconds.
#[must_use]
pub(crate) fn own_cpu() -> f64 {
    TICK.as_secs_f64() * float(ticks(process::id(), 2).unwrap_or_default())
}

/// Its own times, in user and system mode; with four those of its children that have ended, too.
fn ticks(pid: u32, times: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name in brackets: utime, stime, cutime and cstime are the 12th to 15th.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(times);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

/// The processor time of those threads whose name begins so, in seconds.
#[must_use]
pub(crate) fn thread_cpu(pid: u32, name: &str) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut nanos = 0;
    for thread in threads.into_iter().flatten().flatten() {
        let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(name) {
            let schedstat = read("schedstat");
            let time = schedstat
                .split(' ')
                .next()
                .and_then(|time| time.parse::<u64>().ok());
            nanos += time.unwrap_or_default();
        }
    }
    Duration::from_nanos(nanos).as_secs_f64()
}

/// The processor time of everything on this machine, in seconds.
#[must_use]
pub(crate) fn machine_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.split_whitespace().skip(1).map(str::parse::<u64>);
    let fields: Vec<u64> = fields.map_while(Result::ok).collect();
    // user, nice, system, then idle and iowait, irq, softirq.
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&field| fields.get(field));
    TICK.as_secs_f64() * float(busy.sum())
}

/// The memory of these and all below them in bytes, with each page that several of the machine's
/// processes share divided among them (PSS).
#[must_use]
pub(crate) fn pss(roots: &[u32]) -> u64 {
    let of = |pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:").ok();
    tree(roots).into_iter().filter_map(of).sum::<u64>() << 10
}

/// A process's resident memory in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    Ok(kib(&format!("/proc/{pid}/status"), "VmRSS:")? << 10)
}

/// The most resident memory that a process has had since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: u32) -> anyhow::Result<u64> {
    Ok(kib(&format!("/proc/{pid}/status"), "VmHWM:")? << 10)
}

/// Lets [`peak`] begin anew.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").with_context(|| format!("writing {file}"))
}

/// What stands in kB behind this name in the file.
fn kib(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("finding {name} in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_shows_in_the_time_and_pages_in_the_memory() {
        let own = [process::id()];
        let (before, start) = (cpu(&own), Instant::now());
        while cpu(&own) < before + 0.05 {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(machine_cpu() > 0.0);
        assert!(pss(&own) > 1 << 20);
        assert!(resident(own[0]).unwrap() <= peak(own[0]).unwrap());
    }
}
