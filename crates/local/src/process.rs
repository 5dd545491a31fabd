//! One run of a child process: from its start to its end.
//!
//! Every child has a thread of its own that starts it, waits for it and keeps its exit status.
//! `setpriv --pdeathsig` stands before the program: when the thread that started a child ends, as
//! all do if this process is killed, the kernel sends that signal to the child. This is why the
//! waiting thread is the one that starts it: callers may come from threads that end earlier.

use crate::{Error, files, find, log::Log, user::User};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    ffi::{OsStr, OsString},
    io::{self, PipeReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// Variables that the service manager of this process meant for it, not for its children.
const MANAGERS: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
];

/// Which program to start, and how.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, Option<OsString>)>,
    input: String,
    folder: PathBuf,
    user: Option<User>,
    death_signal: &'static str,
}

impl Spec {
    /// The program, and the name that errors and the log file bear.
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            input: String::new(),
            folder: PathBuf::from("/"),
            user: None,
            death_signal: "KILL",
        }
    }

    /// A program of this workspace, which lies beside the running one or in PATH.
    pub fn sibling(name: impl Into<String>, program: &str) -> Result<Self, Error> {
        Ok(Self::new(name, find::sibling(program)?))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.variables.push((name, Some(value)));
        self
    }

    /// Leaves out a variable that this process has.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().to_owned(), None));
        self
    }

    /// Gives the program a standard input, of less than a pipe's 64 KiB.
    pub(crate) fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// Runs the program in this folder rather than in `/`.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Runs the program as this user, if one is given.
    pub(crate) fn user(mut self, user: Option<&User>) -> Self {
        self.user = user.cloned();
        self
    }

    /// What the kernel sends to the program when this process dies; by default KILL.
    pub(crate) fn death_signal(mut self, signal: &'static str) -> Self {
        self.death_signal = signal;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command(&self) -> Result<Command, Error> {
        let mut command = Command::new(find::setpriv()?);
        command
            .args(["--pdeathsig", self.death_signal, "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            // A Ctrl-C on the terminal is ours alone: the parts are stopped in their order.
            .process_group(0);
        for foreign in MANAGERS {
            command.env_remove(foreign);
        }
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(user) = &self.user {
            user.apply(&mut command);
        }
        Ok(command)
    }

    fn stdin(&self) -> io::Result<PipeReader> {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(self.input.as_bytes())?;
        Ok(reader)
    }
}

/// A child that was started. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    pid: Pid,
    end: Arc<End>,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    came: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts the program; what it writes is appended to `<logs>/<name>.log`.
    pub(crate) fn start(spec: &Spec, logs: &Path) -> Result<Self, Error> {
        files::make_dir(logs)?;
        let (log, output) = Log::start(logs.join(format!("{}.log", spec.name)))?;
        let doing = format!("starting {}", spec.program.display());
        let mut command = spec.command()?;
        let input = spec.stdin().map_err(Error::io(doing.clone()))?;
        let errors = output.try_clone().map_err(Error::io(doing.clone()))?;
        command.stdin(input).stdout(output).stderr(errors);
        let end = Arc::<End>::default();
        let (started, pid) = mpsc::sync_channel(1);
        let kept = Arc::clone(&end);
        thread::Builder::new()
            .name(spec.name.clone())
            .spawn(move || {
                let child = command.spawn();
                // Our ends of its pipes, which would hide that it closed them.
                drop(command);
                match child {
                    Ok(child) => {
                        _ = started.send(Ok(pid_of(&child)));
                        kept.keep(child);
                    }
                    Err(error) => _ = started.send(Err(error)),
                }
            })
            .map_err(Error::io(doing.clone()))?;
        let pid = pid
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(Error::io(doing))?;
        Ok(Self {
            name: spec.name.clone(),
            pid,
            end,
            log,
        })
    }

    /// Runs the program to its end and gives what it wrote; an error if it fails or takes longer
    /// than `within`.
    pub(crate) fn run(spec: &Spec, logs: &Path, within: Duration) -> Result<Vec<String>, Error> {
        let process = Self::start(spec, logs)?;
        match process.wait(within) {
            Some(status) if status.success() => Ok(process.log.last_words()),
            Some(status) => Err(process.ended(status)),
            None => Err(process.not_ready(within)),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        *self.end.lock()
    }

    /// Waits for the end.
    pub(crate) fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let (status, _) = self
            .end
            .came
            .wait_timeout_while(self.end.lock(), within, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *status
    }

    /// Sends a signal, unless the child has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Under the lock the child is not reaped, so the pid can't be another's by now.
        if self.end.lock().is_none() {
            // Refused only for a zombie, which needs no signal any more.
            _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Ends the child in its own way, or with SIGKILL if it takes longer than `within`.
    pub(crate) fn stop(&self, signal: Signal, within: Duration) {
        self.signal(signal);
        self.signal(Signal::CONT);
        if self.wait(within).is_none() {
            self.kill();
        }
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait(Duration::MAX);
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        match self.exit() {
            Some(_) => self.log.last_words(),
            None => self.log.last(),
        }
    }

    /// The error that it ended by itself.
    pub(crate) fn ended(&self, status: ExitStatus) -> Error {
        Error::Ended {
            name: self.name.clone(),
            status,
            lines: self.last_lines(),
        }
    }

    /// The error that it does not do its work.
    pub(crate) fn not_ready(&self, waited: Duration) -> Error {
        Error::NotReady {
            name: self.name.clone(),
            waited,
            lines: self.last_lines(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl End {
    fn keep(&self, mut child: Child) {
        let pid = pid_of(&child);
        // Waits without reaping, which happens under the lock (see `signal`).
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {}
        let mut status = self.lock();
        // Fails only if somebody else reaped the child; how it ended is lost then.
        let lost = |_| ExitStatus::from_raw(127 << 8);
        *status = Some(child.wait().unwrap_or_else(lost));
        self.came.notify_all();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
