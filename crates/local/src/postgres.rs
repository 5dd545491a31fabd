//! A PostgreSQL server of one's own.

use crate::{
    Error, Service, Spec,
    cluster::Maker,
    files,
    find::{self, Installation},
    ready::Readiness,
    tree::{self, Frozen},
    user::User,
};
use rustix::process::{Pid, Signal};
use std::{
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long the processes of a dead server may hold on to its directory.
const GONE_LIMIT: Duration = Duration::from_secs(20);

/// What the server gives up for speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Nothing: for data that is to be kept.
    Durable,
    /// Committed data outlives a kill of the server, but not a power cut; for tests.
    Fast,
}

/// A PostgreSQL server on a socket in its directory, with a database `imgsys` that the role
/// `imgsys` owns. Only the user that started it, and root, can get to the socket; there are no
/// passwords.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
    dir: PathBuf,
    tuning: Tuning,
    frozen: Mutex<Option<Frozen>>,
}

impl Postgres {
    /// The server whose data is in `dir`, not yet started. The directories and the cluster are
    /// made if need be; a test's is a copy of one made before, which is faster.
    pub fn new(dir: &Path, logs: &Path, tuning: Tuning) -> Result<Self, Error> {
        Self::with(dir, logs, tuning, &[])
    }

    fn with(dir: &Path, logs: &Path, tuning: Tuning, more: &[String]) -> Result<Self, Error> {
        let user = User::unprivileged()?;
        files::make_dir(dir)?;
        let dir = files::absolute(dir)?;
        files::check_socket(&dir.join(".s.PGSQL.5432.lock"))?;
        if let Some(user) = &user {
            user.own(&dir)?;
            user.check_reach(&dir)?;
        }
        let data = dir.join("data");
        let installation = installation_for(&data)?;
        if !data.exists() {
            let maker = Maker {
                installation: &installation,
                user: user.as_ref(),
                folder: &dir,
                logs,
            };
            match tuning {
                Tuning::Durable => maker.make(&data)?,
                Tuning::Fast => maker.copy_small(&data)?,
            }
        }
        let spec = Spec::new("postgres", installation.bin.join("postgres"))
            .user(user.as_ref())
            .folder(&dir)
            // An immediate shutdown, which leaves no shared memory behind as KILL would.
            .death_signal("QUIT")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&dir)
            .args(settings(tuning).iter().flat_map(|setting| ["-c", setting]))
            .args(more.iter().flat_map(|setting| ["-c", setting]));
        let readiness = Readiness::Postgres(data.join("postmaster.pid"));
        Ok(Self {
            // INT is its fast shutdown: sessions are ended, data is written.
            service: Service::with(spec, logs, readiness, Signal::INT),
            dir,
            tuning,
            frozen: Mutex::new(None),
        })
    }

    /// As the `postgres` crate takes it: `host=… user=imgsys dbname=imgsys`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("host='{}' user=imgsys dbname=imgsys", self.dir.display())
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The supervised program.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Starts the server on the data it has and waits until it takes connections.
    pub fn start(&self) -> Result<(), Error> {
        let until = Instant::now() + GONE_LIMIT;
        loop {
            match self.service.start() {
                // A server before this one, whose starter was killed, may still be on its way out.
                Err(Error::Ended { lines, .. }) if held(&lines) && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(50));
                }
                done => return done,
            }
        }
    }

    /// Stops the server in order; sessions are ended.
    pub fn stop(&self) {
        self.resume();
        self.service.stop();
    }

    /// Kills all of the server's processes with SIGKILL, as a machine that loses its power.
    pub fn kill(&self) {
        if let Some(first) = self.service.process_id() {
            // Stopped first, so that it starts none while the others are looked up.
            self.service.pause();
            let others = tree::children(first);
            self.service.kill();
            tree::kill(&others, GONE_LIMIT);
        }
        // Lets the guard of a paused server go.
        self.resume();
    }

    /// Freezes all of the server's processes: connections stay open and unanswered.
    pub fn pause(&self) -> Result<(), Error> {
        let Some(pid) = self.service.process_id() else {
            return Ok(());
        };
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if frozen.is_none() {
            *frozen = Some(Frozen::new(pid).map_err(Error::io("pausing postgres"))?);
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        *frozen = None;
    }

    /// Ends a server whose data goes too: as fast as it can, without leaving anything behind.
    fn discard(&self) {
        self.resume();
        let others: Vec<Pid> = self
            .service
            .process_id()
            .map_or_else(Vec::new, tree::children);
        self.service.signal(Signal::QUIT);
        if self.service.wait(GONE_LIMIT).is_none() {
            self.service.kill();
            tree::kill(&others, GONE_LIMIT);
        }
        self.remove_shared_memory();
    }

    /// A killed server leaves a segment of System V shared memory, which the next one on the same
    /// data removes; here there may be no next one.
    fn remove_shared_memory(&self) {
        let Ok(pidfile) = std::fs::read_to_string(self.dir.join("data/postmaster.pid")) else {
            return; // It ended in order.
        };
        // The seventh line is the segment's key and id.
        if let Some(id) = pidfile
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1))
        {
            // Nothing more can be done where util-linux's ipcrm is missing: it is a few bytes.
            _ = Command::new("ipcrm")
                .args(["-m", id])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.tuning {
            Tuning::Durable => self.stop(),
            Tuning::Fast => self.discard(),
        }
    }
}

/// What PostgreSQL says if another server has its directory.
fn held(lines: &[String]) -> bool {
    lines.iter().any(|line| {
        line.contains("still in use")
            || line.contains("lock file \"postmaster.pid\" already exists")
    })
}

fn installation_for(data: &Path) -> Result<Installation, Error> {
    let made_by = std::fs::read_to_string(data.join("PG_VERSION")).ok();
    let made_by = made_by.as_deref().map(str::trim);
    find::postgres(|found| made_by.is_none_or(|major| major == found.major()))?.ok_or_else(|| {
        Error::OtherVersion {
            data: data.to_owned(),
            made_by: made_by.unwrap_or_default().to_owned(),
        }
    })
}

fn settings(tuning: Tuning) -> &'static [&'static str] {
    match tuning {
        Tuning::Durable => &[
            "listen_addresses=",
            "unix_socket_permissions=0700",
            "shared_buffers=64MB",
        ],
        Tuning::Fast => &[
            "listen_addresses=",
            "unix_socket_permissions=0700",
            "shared_buffers=16MB",
            // In files of the data directory, which goes away with the test.
            "dynamic_shared_memory_type=mmap",
            "fsync=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
        ],
    }
}

/// A [`Postgres`] in a temporary directory, which goes away with it.
#[derive(Debug)]
pub struct TestPostgres {
    postgres: Postgres,
    // Declared last, so that it is removed last.
    _dir: tempfile::TempDir,
}

impl TestPostgres {
    /// A new, running server with an empty database `imgsys`, [`Tuning::Fast`].
    pub fn start() -> Result<Self, Error> {
        Self::start_tuned(Tuning::Fast)
    }

    /// The same, tuned otherwise.
    pub fn start_tuned(tuning: Tuning) -> Result<Self, Error> {
        Self::start_with(tuning, &[])
    }

    /// The same, which listens on this port of 127.0.0.1 too. The port is part of its socket's
    /// name, so [`Postgres::url`] needs `port=…` behind it.
    pub fn start_listening(port: u16) -> Result<Self, Error> {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
        ];
        Self::start_with(Tuning::Fast, &settings)
    }

    fn start_with(tuning: Tuning, more: &[String]) -> Result<Self, Error> {
        let dir = files::temp_dir()?;
        files::let_pass(dir.path())?;
        let (data, log) = (dir.path().join("pg"), dir.path().join("log"));
        let postgres = Postgres::with(&data, &log, tuning, more)?;
        postgres.start()?;
        Ok(Self {
            postgres,
            _dir: dir,
        })
    }
}

impl Deref for TestPostgres {
    type Target = Postgres;

    fn deref(&self) -> &Postgres {
        &self.postgres
    }
}
