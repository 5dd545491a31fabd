//! What a worker says of its process and machine, as Python's workers do. On a system without
//! `/proc` it says less.

use chrono::Local;
use serde_json::{Value, json};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// What a worker is made of, in events and reports.
pub(crate) const SOFTWARE: &str = "imgsys";
/// Its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The length of a tick of `/proc/self/stat`, in seconds: the same on every Linux.
const TICK: f64 = 0.01;
/// The length of a block as `getrusage` counts them, in bytes.
const BLOCK: u64 = 512;

/// The system's name as Python's `platform.system()` gives it.
pub(crate) fn system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Hours by which local time is behind UTC. Those who read events correct timestamps by the
/// difference between this and their own, as if timestamps were local; so it must be true.
pub(crate) fn utc_offset() -> f64 {
    f64::from(Local::now().offset().utc_minus_local()) / 3600.0
}

/// The machine's load over 1, 5 and 15 minutes.
pub(crate) fn load() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0.0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

/// What this process has used, under the names of `getrusage`. What Linux does not count is 0 there
/// and here.
pub(crate) fn usage() -> Value {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
        return "N/A".into();
    };
    // The second field is the program's name, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field =
        |index: usize| -> u64 { fields.get(index).and_then(|n| n.parse().ok()).unwrap_or(0) };
    #[expect(clippy::cast_precision_loss)]
    let seconds = |index| field(index) as f64 * TICK;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    json!({
        "utime": seconds(11),
        "stime": seconds(12),
        "maxrss": named(&status, "VmHWM:"),
        "ixrss": 0,
        "idrss": 0,
        "isrss": 0,
        "minflt": field(7),
        "majflt": field(9),
        "nswap": 0,
        "inblock": named(&io, "read_bytes:") / BLOCK,
        "oublock": named(&io, "write_bytes:") / BLOCK,
        "msgsnd": 0,
        "msgrcv": 0,
        "nsignals": 0,
        "nvcsw": named(&status, "voluntary_ctxt_switches:"),
        "nivcsw": named(&status, "nonvoluntary_ctxt_switches:"),
    })
}

/// The number that follows this name at the beginning of a line.
fn named(text: &str, name: &str) -> u64 {
    let number = text.lines().find_map(|line| line.strip_prefix(name));
    let number = number.and_then(|rest| rest.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_has_used_something() {
        let usage = usage();
        for name in ["maxrss", "minflt"] {
            assert!(usage[name].as_u64().unwrap() > 0, "{usage}");
        }
        assert!(usage["utime"].is_f64());
        assert!(load().iter().all(|load| *load >= 0.0));
    }
}
