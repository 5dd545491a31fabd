//! What lies between clients and a server's socket, for tests of links that fail.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
};
use tempfile::TempDir;

/// What becomes of something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It is passed on.
    On,
    /// It is lost, and the connection stays.
    Lost,
    /// It is lost, and the connection ends.
    End,
}

/// Hears what one side of a connection says, piece by piece, and decides about it.
pub type Ear = Box<dyn FnMut(&[u8]) -> Passage + Send>;

/// A socket of its own, from which every connection is carried on to that of a server.
#[derive(Debug)]
pub struct Between {
    dir: TempDir,
    socket: PathBuf,
}

impl Between {
    /// Lies before this socket. For each connection `ears` gives one for the client and one for the
    /// server.
    pub fn before(
        server: &Path,
        ears: impl Fn() -> (Ear, Ear) + Send + 'static,
    ) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join(server.file_name().unwrap_or_default());
        let listener = UnixListener::bind(&socket)?;
        let server = server.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A server that is gone is one that does not answer.
                let _ =
                    UnixStream::connect(&server).and_then(|server| link(client, server, ears()));
            }
        });
        Ok(Self { dir, socket })
    }

    /// Where clients connect.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The folder in which that is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
}

fn link(client: UnixStream, server: UnixStream, ears: (Ear, Ear)) -> io::Result<()> {
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass_on(from, to, ears.0));
    thread::spawn(move || pass_on(server, client, ears.1));
    Ok(())
}

/// Passes on what is said until either side ends, or the ear has it end.
fn pass_on(mut from: UnixStream, mut to: UnixStream, mut ear: Ear) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let said = &bytes[..read];
        match ear(said) {
            Passage::On if to.write_all(said).is_ok() => {}
            Passage::Lost => {}
            Passage::On | Passage::End => break,
        }
    }
    // They may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
