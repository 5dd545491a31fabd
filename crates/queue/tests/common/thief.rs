//! What lies between a worker and Redis, and may steal answers.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// Passes on all that is said. While it steals, the connection on which `marked` was said is closed
/// instead of passing on Redis' next answer: Redis has done what it was asked, and nobody is told.
pub struct Thief {
    dir: TempDir,
    steals: Arc<AtomicBool>,
}

impl Thief {
    /// Steals from the beginning.
    pub fn before(socket: &Path, marked: &'static [u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let steals = Arc::new(AtomicBool::new(true));
        let (socket, stealing) = (socket.to_owned(), Arc::clone(&steals));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Redis may be gone, as its test is.
                let Ok(redis) = UnixStream::connect(&socket) else {
                    continue;
                };
                let due = Arc::new(AtomicBool::new(false));
                let (falls_due, steals) = (Arc::clone(&due), Arc::clone(&stealing));
                let (from, to) = (client.try_clone().unwrap(), redis.try_clone().unwrap());
                thread::spawn(move || {
                    let mut end = Vec::new();
                    pass_on(from, to, |said| {
                        end.extend_from_slice(said);
                        if end.windows(marked.len()).any(|part| part == marked) {
                            falls_due.store(true, Ordering::SeqCst);
                            end.clear();
                        }
                        // It may come in two parts.
                        end.drain(..end.len().saturating_sub(marked.len()));
                        true
                    });
                });
                thread::spawn(move || {
                    pass_on(redis, client, |said| {
                        // A script that Redis does not know was not run.
                        let ran = !said.starts_with(b"-NOSCRIPT");
                        !(due.swap(false, Ordering::SeqCst) && ran && steals.load(Ordering::SeqCst))
                    });
                });
            }
        });
        Self { dir, steals }
    }

    pub fn url(&self) -> String {
        format!("unix://{}/socket", self.dir.path().display())
    }

    /// Steals nothing any more.
    pub fn reform(&self) {
        self.steals.store(false, Ordering::SeqCst);
    }
}

/// Passes on what is said until either side ends, or `may_pass` says no.
fn pass_on(mut from: UnixStream, mut to: UnixStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if !may_pass(&bytes[..read]) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // They may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
