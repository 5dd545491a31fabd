//! How it is known that a child does its work.

use crate::{Error, files};
use rustix::process::Pid;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Who says that the child is ready.
#[derive(Debug, Clone)]
pub(crate) enum Readiness {
    /// The child, by the protocol of `sd_notify(3)`, to a socket at this path.
    Notify(PathBuf),
    /// Redis at this socket, by its answer to PING.
    Redis(PathBuf),
    /// PostgreSQL, in the eighth line of this file, which is where `pg_ctl` looks too.
    Postgres(PathBuf),
}

/// Looks for the sign of one run of the child.
#[derive(Debug)]
pub(crate) enum Watch {
    Notify(UnixDatagram),
    Redis(PathBuf),
    Postgres(PathBuf),
}

impl Readiness {
    /// To be called before the child is started.
    pub(crate) fn watch(&self) -> Result<Watch, Error> {
        Ok(match self {
            Self::Notify(path) => Watch::Notify(bind(path)?),
            Self::Redis(path) => Watch::Redis(path.clone()),
            Self::Postgres(path) => Watch::Postgres(path.clone()),
        })
    }

    /// What the child must know: the value of `NOTIFY_SOCKET`.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Notify(path) => Some(path),
            Self::Redis(_) | Self::Postgres(_) => None,
        }
    }
}

impl Watch {
    /// Whether the sign has come of the child with this process id.
    pub(crate) fn is_ready(&self, pid: Pid, facts: &Facts) -> bool {
        match self {
            Self::Notify(socket) => receive(socket, facts),
            Self::Redis(socket) => ask_redis(socket, "PING").is_ok_and(|answer| answer == "+PONG"),
            Self::Postgres(pidfile) => {
                std::fs::read_to_string(pidfile).is_ok_and(|text| says_ready(&text, pid))
            }
        }
    }
}

/// The file of a server that was killed says "ready" too, so its first line must be this one's pid.
fn says_ready(pidfile: &str, pid: Pid) -> bool {
    let line = |number| pidfile.lines().nth(number).map_or("", str::trim);
    line(0) == pid.as_raw_nonzero().to_string() && line(7) == "ready"
}

/// What a child told about itself: `X_IMGSYS_LISTEN=127.0.0.1:7450` is the fact `LISTEN`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts(Arc<Mutex<BTreeMap<String, String>>>);

impl Facts {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        facts.get(name).cloned()
    }

    fn note(&self, line: &str) {
        if let Some((name, value)) = line
            .strip_prefix("X_IMGSYS_")
            .and_then(|fact| fact.split_once('='))
        {
            let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            facts.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn bind(path: &Path) -> Result<UnixDatagram, Error> {
    files::check_socket(path)?;
    if let Some(folder) = path.parent() {
        files::make_dir(folder)?;
    }
    // The socket of an earlier run; nothing if there was none.
    _ = std::fs::remove_file(path);
    let doing = format!("binding {}", path.display());
    let socket = UnixDatagram::bind(path).map_err(Error::io(doing.clone()))?;
    socket.set_nonblocking(true).map_err(Error::io(doing))?;
    Ok(socket)
}

fn receive(socket: &UnixDatagram, facts: &Facts) -> bool {
    let mut ready = false;
    let mut message = [0; 4096];
    while let Ok(size) = socket.recv(&mut message) {
        for line in String::from_utf8_lossy(&message[..size]).lines() {
            ready |= line == "READY=1";
            facts.note(line);
        }
    }
    ready
}

/// Gives Redis a command without arguments and returns the first line of its answer.
pub(crate) fn ask_redis(socket: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}
