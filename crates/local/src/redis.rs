//! A Redis server of one's own.

use crate::{
    Error, Service, Spec, files, find,
    ready::{Readiness, ask_redis},
};
use rustix::process::Signal;
use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

/// Where the server stops taking writes; our own programs keep well below it.
const MAX_MEMORY: &str = "512mb";

/// A Redis server on a socket in its directory. It writes every change to its append-only file, so
/// its data outlives [`Redis::kill`], and it refuses writes rather than evict.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    socket: PathBuf,
}

impl Redis {
    /// The server whose data is in `dir`, not yet started. The directories are made if need be.
    pub fn new(dir: &Path, logs: &Path) -> Result<Self, Error> {
        let program = find::redis_server()?;
        files::make_dir(dir)?;
        let dir = files::absolute(dir)?;
        let socket = dir.join("redis.sock");
        files::check_socket(&socket)?;
        let spec = Spec::new("redis", program)
            .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(&dir)
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            // What comes and goes fills the log soon: written anew at 64 MiB, as Redis would by
            // itself, it takes a fifth of Redis' time, half of that to compress it.
            .args(["--auto-aof-rewrite-min-size", "256mb"])
            .args(["--rdbcompression", "no"])
            .args(["--save", "", "--maxmemory-policy", "noeviction"])
            .args(["--maxmemory", MAX_MEMORY, "--daemonize", "no"]);
        let readiness = Readiness::Redis(socket.clone());
        Ok(Self {
            service: Service::with(spec, logs, readiness, Signal::TERM),
            socket,
        })
    }

    /// As the `redis` crate takes it: `unix:///…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The supervised program.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Starts the server on the data it has and waits until it answers.
    pub fn start(&self) -> Result<(), Error> {
        self.service.start()
    }

    /// Stops the server; it flushes its data.
    pub fn stop(&self) {
        self.service.stop();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&self) {
        self.service.kill();
    }

    /// Freezes the server: connections stay open and unanswered.
    pub fn pause(&self) {
        self.service.pause();
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.service.resume();
    }

    /// Deletes everything it holds, as a server with a new disk would come up.
    pub fn wipe(&self) -> Result<(), Error> {
        let answer =
            ask_redis(&self.socket, "FLUSHALL").map_err(Error::io("sending FLUSHALL to redis"))?;
        if answer == "+OK" {
            return Ok(());
        }
        Err(self.service.refused(answer))
    }
}

/// A [`Redis`] in a temporary directory, which goes away with it.
#[derive(Debug)]
pub struct TestRedis {
    redis: Redis,
    // Declared last, so that it is removed last.
    _dir: tempfile::TempDir,
}

impl TestRedis {
    /// A new, empty, running server.
    pub fn start() -> Result<Self, Error> {
        let dir = files::temp_dir()?;
        let redis = Redis::new(dir.path(), &dir.path().join("log"))?;
        redis.start()?;
        Ok(Self { redis, _dir: dir })
    }
}

impl Deref for TestRedis {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}
