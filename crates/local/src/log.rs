//! What a child writes: kept in a file, and its last lines in memory.

use crate::Error;
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Lines that an error shows.
const KEPT_LINES: usize = 50;
/// A file larger than this is put aside as `….log.1`, so that at most two such remain.
const MAX_FILE: u64 = 16 << 20;

/// The log of one run of a child.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Mutex<Lines>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<String>,
    ended: bool,
}

impl Log {
    /// Appends what is written into the returned pipe to `file`.
    pub(crate) fn start(file: PathBuf) -> Result<(Arc<Self>, PipeWriter), Error> {
        let (reader, writer) = std::io::pipe().map_err(Error::io("making a pipe"))?;
        let out = open(&file).map_err(Error::io(format!("opening {}", file.display())))?;
        let log = Arc::new(Self {
            lines: Mutex::default(),
            ended: Condvar::new(),
        });
        let keeper = Arc::clone(&log);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || keeper.keep(reader, &file, out))
            .map_err(Error::io("starting a thread"))?;
        Ok((log, writer))
    }

    fn keep(&self, reader: PipeReader, path: &Path, mut out: File) {
        let mut size = out.metadata().map_or(0, |found| found.len());
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if size > MAX_FILE
                && let Ok(fresh) = rotate(path)
            {
                (out, size) = (fresh, 0);
            }
            // A full disk must not stop the child, which it would if its pipe were not read.
            if out.write_all(&line).is_ok() {
                size += line.len() as u64;
            }
            self.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
        self.lock().ended = true;
        self.ended.notify_all();
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.last.len() == KEPT_LINES {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// The last lines so far.
    pub(crate) fn last(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    /// The last lines of a child that has ended. Its own children may hold the pipe open, so the
    /// end of the log is not waited for at any length.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let (lines, _) = self
            .ended
            .wait_timeout_while(self.lock(), Duration::from_millis(500), |lines| {
                !lines.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        lines.last.iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn rotate(path: &Path) -> std::io::Result<File> {
    let mut old = path.as_os_str().to_owned();
    old.push(".1");
    std::fs::rename(path, old)?;
    open(path)
}
