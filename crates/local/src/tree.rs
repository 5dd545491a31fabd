//! A process with its children: PostgreSQL's server is many processes, and stopping or killing
//! only the first of them is not what a stopped or lost machine looks like.

use rustix::process::{Pid, Signal};
use std::{
    fs,
    io::{self, PipeWriter},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The children of a process that are alive.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The parent, if the process is alive.
fn parent_of(pid: Pid) -> Option<Pid> {
    let (state, parent) = state(pid)?;
    (state != 'Z').then_some(parent).flatten()
}

fn state(pid: Pid) -> Option<(char, Option<Pid>)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // "12 (name with ) maybe) S 1 …"
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    let parent = words.next()?.parse().ok().and_then(Pid::from_raw);
    Some((state, parent))
}

/// Kills the processes and waits until they are gone.
pub(crate) fn kill(pids: &[Pid], within: Duration) {
    for pid in pids {
        _ = rustix::process::kill_process(*pid, Signal::KILL);
    }
    let until = Instant::now() + within;
    let alive = |pid: &Pid| state(*pid).is_some_and(|(state, _)| state != 'Z');
    while pids.iter().any(alive) && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Processes that are stopped until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Continues them when its standard input ends. So they go on even if this process is killed,
    /// rather than stay stopped for ever.
    guard: Child,
    lifeline: Option<PipeWriter>,
}

impl Frozen {
    /// Stops the process and its children.
    pub(crate) fn new(parent: Pid) -> io::Result<Self> {
        // The parent first: it starts no further children then.
        rustix::process::kill_process(parent, Signal::STOP)?;
        let mut pids = children(parent);
        pids.push(parent);
        let (reader, writer) = io::pipe()?;
        let guard = Command::new("/bin/sh")
            .args(["-c", "cat; kill -CONT \"$@\"", "sh"])
            .args(pids.iter().map(|pid| pid.as_raw_nonzero().to_string()))
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        for pid in &pids {
            _ = rustix::process::kill_process(*pid, Signal::STOP);
        }
        Ok(Self {
            guard,
            lifeline: Some(writer),
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        _ = self.guard.wait();
    }
}
