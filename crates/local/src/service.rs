//! A program that runs until it is stopped, and can be started again.

use crate::{
    Error,
    process::{Process, Spec},
    ready::{Facts, Readiness, Watch},
};
use rustix::process::{Pid, Signal};
use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a service may take until it is ready. Generous: PostgreSQL may have to recover, and a
/// machine that runs many tests at once is slow.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a service may take to end in its own way.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// A supervised program. All methods take `&self`, so that a test can kill it in the midst of
/// whatever else it does.
#[derive(Debug)]
pub struct Service {
    spec: Spec,
    readiness: Readiness,
    stop_signal: Signal,
    logs: PathBuf,
    facts: Facts,
    run: Mutex<Option<Run>>,
}

#[derive(Debug)]
struct Run {
    process: Arc<Process>,
    /// Kept while the child lives: what it says later should find an open socket.
    watch: Watch,
    ready: bool,
}

impl Service {
    /// A program that tells by `sd_notify` when it is ready, as all of ours do. Its socket lies in
    /// `<dir>/run`, its log in `<dir>/log`. It is not started yet.
    #[must_use]
    pub fn new(spec: Spec, dir: &Path) -> Self {
        let socket = dir.join("run").join(format!("{}.sock", spec.name()));
        let logs = dir.join("log");
        Self::with(spec, &logs, Readiness::Notify(socket), Signal::TERM)
    }

    pub(crate) fn with(spec: Spec, logs: &Path, readiness: Readiness, stop_signal: Signal) -> Self {
        Self {
            spec,
            readiness,
            stop_signal,
            logs: logs.to_owned(),
            facts: Facts::default(),
            run: Mutex::new(None),
        }
    }

    /// Starts the program and waits until it is ready. Nothing happens if it runs already.
    pub fn start(&self) -> Result<(), Error> {
        self.begin()?;
        self.await_ready()
    }

    /// Starts the program.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        let mut run = self.lock();
        if run.as_ref().is_some_and(|run| run.process.exit().is_none()) {
            return Ok(());
        }
        let watch = self.readiness.watch()?;
        let mut spec = self.spec.clone();
        if let Some(socket) = self.readiness.socket() {
            spec = spec.env("NOTIFY_SOCKET", socket);
        }
        let process = Arc::new(Process::start(&spec, &self.logs)?);
        *run = Some(Run {
            process,
            watch,
            ready: false,
        });
        Ok(())
    }

    /// Waits until the program is ready, ends, or has taken too long.
    pub(crate) fn await_ready(&self) -> Result<(), Error> {
        let until = Instant::now() + START_LIMIT;
        loop {
            let process = {
                let mut run = self.lock();
                let Some(run) = &mut *run else {
                    return Err(self.refused("stopped while it was starting"));
                };
                // Asked first: a program that said that it is ready and then ended is ended.
                let exit = run.process.exit();
                run.ready = run.ready || run.watch.is_ready(run.process.pid(), &self.facts);
                match exit {
                    Some(status) => return Err(run.process.ended(status)),
                    None if run.ready => return Ok(()),
                    None if Instant::now() > until => {
                        return Err(run.process.not_ready(START_LIMIT));
                    }
                    None => Arc::clone(&run.process),
                }
            };
            // Without the lock: another thread may kill it meanwhile.
            process.wait(Duration::from_millis(5));
        }
    }

    /// Stops the program in its own way, or kills it if that takes too long.
    pub fn stop(&self) {
        if let Some(run) = self.lock().take() {
            run.process.stop(self.stop_signal, STOP_LIMIT);
        }
    }

    /// Tells the program to stop, without waiting for it; [`Service::stop`] does.
    pub fn ask_to_stop(&self) {
        if let Some(run) = &*self.lock() {
            run.process.signal(self.stop_signal);
        }
    }

    /// Kills the program with SIGKILL and waits until it is gone.
    pub fn kill(&self) {
        if let Some(run) = self.lock().take() {
            run.process.kill();
        }
    }

    /// [`Service::stop`] and [`Service::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.stop();
        self.start()
    }

    /// Stops the program with SIGSTOP: it holds its connections, but does nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused program go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(run) = &*self.lock() {
            run.process.signal(signal);
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    /// Process id, if the program runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process_id()
            .map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    pub(crate) fn process_id(&self) -> Option<Pid> {
        let run = self.lock();
        let process = &run.as_ref()?.process;
        process.exit().is_none().then(|| process.pid())
    }

    /// How the program ended, if it ended by itself.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        self.lock().as_ref()?.process.exit()
    }

    /// Waits for the program to end by itself.
    #[must_use]
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let process = Arc::clone(&self.lock().as_ref()?.process);
        process.wait(within)
    }

    /// The error that the program ended by itself, if it did.
    pub(crate) fn death(&self) -> Option<Error> {
        let run = self.lock();
        let process = &run.as_ref()?.process;
        process.exit().map(|status| process.ended(status))
    }

    /// The last lines that the present run of the program wrote, or the last run if it ended by
    /// itself.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.lock()
            .as_ref()
            .map_or_else(Vec::new, |run| run.process.last_lines())
    }

    /// A fact that the program told with its readiness, such as `LISTEN`.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<String> {
        self.facts.get(name)
    }

    pub(crate) fn refused(&self, message: impl Into<String>) -> Error {
        Error::Refused {
            name: self.name().to_owned(),
            message: message.into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
