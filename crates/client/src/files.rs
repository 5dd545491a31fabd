//! Which files to send: found one by one, so that a million paths take no more memory than ten.

use crate::report::{Report, reason};
use bytes::Bytes;
use imgsys_types::{Digest, ErrorCode};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, Read},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    thread,
};
use tokio::sync::mpsc;
use walkdir::WalkDir;

/// Endings of names by which a file in a directory is taken for an image.
pub(crate) const EXTENSIONS: [&str; 8] =
    ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff"];
/// Paths that are found ahead of what is being sent.
const AHEAD: usize = 64;
/// How much of a file is read at once.
pub(crate) const CHUNK: usize = 128 << 10;
/// Up to this size a file is kept in memory between hashing and sending, in bytes.
const KEEP: u64 = 64 << 10;

/// A file to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The path as text: the image's name in the history.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// Why a file can't be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The stable reason.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) detail: String,
}

/// A file that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    /// The SHA-256 of its bytes.
    pub(crate) sha256: Digest,
    /// How many bytes were hashed.
    pub(crate) size: u64,
    /// The bytes, if they are few.
    pub(crate) kept: Option<Bytes>,
}

/// What became of a path.
pub(crate) type Candidate = Result<Found, Report>;

/// Looks at the paths on a thread of its own, no further ahead than needed.
pub(crate) fn find(paths: Vec<PathBuf>, delimiter: u8) -> io::Result<mpsc::Receiver<Candidate>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    // Not one of the runtime's threads: reading standard input may never end, and the program
    // must be able to.
    thread::Builder::new().name("files".into()).spawn(move || {
        let finder = Finder { sender };
        for path in paths {
            let goes_on = if path.as_os_str() == "-" {
                finder.stdin(delimiter)
            } else {
                finder.path(&path)
            };
            if goes_on.is_none() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// Sends what it finds; each method is `None` once nobody wants to know any more.
struct Finder {
    sender: mpsc::Sender<Candidate>,
}

impl Finder {
    fn stdin(&self, delimiter: u8) -> Option<()> {
        for line in io::stdin().lock().split(delimiter) {
            match line {
                Ok(line) if line.is_empty() => {}
                Ok(line) => self.path(Path::new(&OsString::from_vec(line)))?,
                Err(error) => return self.problem(Path::new("-"), &io_problem(&error)),
            }
        }
        Some(())
    }

    fn path(&self, path: &Path) -> Option<()> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => self.directory(path),
            Ok(found) => self.file(path, &found),
            Err(error) => self.problem(path, &io_problem(&error)),
        }
    }

    fn file(&self, path: &Path, found: &fs::Metadata) -> Option<()> {
        if found.is_file() && found.len() == 0 {
            self.problem(
                path,
                &Problem {
                    reason: ErrorCode::EmptyImage.as_str(),
                    detail: "the file is empty".into(),
                },
            )
        } else if found.is_file() {
            self.send(Ok(Found {
                path: path.to_owned(),
                name: name_of(path),
                size: found.len(),
            }))
        } else {
            self.problem(
                path,
                &Problem {
                    reason: reason::NOT_A_FILE,
                    detail: "neither a file nor a directory".into(),
                },
            )
        }
    }

    fn directory(&self, directory: &Path) -> Option<()> {
        let mut any = false;
        // Links to directories are not followed, so that there are no endless loops.
        for entry in WalkDir::new(directory).min_depth(1) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    any = true;
                    let path = error.path().unwrap_or(directory).to_owned();
                    let error = io::Error::from(error);
                    self.problem(&path, &io_problem(&error))?;
                    continue;
                }
            };
            if !has_image_extension(entry.path()) || entry.file_type().is_dir() {
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(found) if found.is_file() => {
                    any = true;
                    self.file(entry.path(), &found)?;
                }
                Ok(_) => {}
                Err(error) => {
                    any = true;
                    self.problem(entry.path(), &io_problem(&error))?;
                }
            }
        }
        if any {
            return Some(());
        }
        let problem = Problem {
            reason: reason::NO_IMAGES,
            detail: format!("no file here ends in {}", EXTENSIONS.join(", ")),
        };
        self.problem(directory, &problem)
    }

    fn problem(&self, path: &Path, problem: &Problem) -> Option<()> {
        let detail = problem.detail.clone();
        self.send(Err(Report::local(name_of(path), problem.reason, detail)))
    }

    fn send(&self, candidate: Candidate) -> Option<()> {
        self.sender.blocking_send(candidate).ok()
    }
}

/// The name that a file has in the history: its path as it was given.
fn name_of(path: &Path) -> String {
    path.strip_prefix(".")
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn has_image_extension(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension))
        })
}

/// An I/O error as the reason why a file can't be sent.
pub(crate) fn io_problem(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem {
            reason: reason::NOT_FOUND,
            detail: "no such file or directory".into(),
        },
        io::ErrorKind::PermissionDenied => Problem {
            reason: reason::UNREADABLE,
            detail: "permission denied".into(),
        },
        _ => Problem {
            reason: reason::UNREADABLE,
            detail: error.to_string(),
        },
    }
}

/// Reads a file through. Blocks: not for the runtime's own threads.
pub(crate) fn hash(path: &Path) -> Result<Hashed, Problem> {
    read_through(path).map_err(|error| io_problem(&error))
}

fn read_through(path: &Path) -> io::Result<Hashed> {
    let mut file = File::open(path)?;
    let expected = file.metadata()?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK.min(usize::try_from(expected).unwrap_or(CHUNK)).max(1)];
    let mut kept = (expected <= KEEP).then(Vec::new);
    let mut size = 0_u64;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        size += read as u64;
        if size > KEEP {
            kept = None;
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&buffer[..read]);
        }
    }
    Ok(Hashed {
        sha256: Digest::from_bytes(hasher.finalize().into()),
        size,
        kept: kept.map(Bytes::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and reason (or "ok") of every candidate, sorted.
    fn found(paths: &[&Path]) -> Vec<(String, &'static str)> {
        let mut receiver =
            find(paths.iter().map(|path| path.to_path_buf()).collect(), b'\n').unwrap();
        let mut all = Vec::new();
        while let Some(candidate) = receiver.blocking_recv() {
            all.push(match candidate {
                Ok(found) => (found.name, "ok"),
                Err(Report {
                    name,
                    end: crate::report::End::Failed { reason, .. },
                    ..
                }) => (name.unwrap(), reason),
                Err(other) => panic!("{other:?}"),
            });
        }
        all.sort();
        all
    }

    #[test]
    fn directories_give_images_and_names_give_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::create_dir(at("bare")).unwrap();
        for name in ["a.JPG", "notes.txt", "deep/er/b.tiff", "bare/x.txt"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(at("a.JPG"), at("deep/link.png")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("deep/loop.jpg")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("deep/dangling.jpg")).unwrap();
        let name = |path: &str| at(path).to_str().unwrap().to_owned();

        assert_eq!(
            found(&[dir.path()]),
            [
                (name("a.JPG"), "ok"),
                (name("deep/dangling.jpg"), reason::NOT_FOUND),
                (name("deep/er/b.tiff"), "ok"),
                (name("deep/link.png"), "ok"),
            ]
        );
        assert_eq!(found(&[&at("notes.txt")]), [(name("notes.txt"), "ok")]);
        assert_eq!(found(&[&at("bare")]), [(name("bare"), reason::NO_IMAGES)]);
        assert_eq!(
            found(&[&at("none.jpg")]),
            [(name("none.jpg"), reason::NOT_FOUND)]
        );
        assert_eq!(
            found(&[Path::new("/dev/null")]),
            [("/dev/null".into(), reason::NOT_A_FILE)]
        );
    }

    #[test]
    fn hashing_keeps_small_files_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let hashed = hash(file.path()).unwrap();
        assert_eq!(
            hashed.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            (hashed.size, hashed.kept.as_deref()),
            (3, Some(&b"abc"[..]))
        );

        fs::write(file.path(), vec![7; 100_000]).unwrap();
        let hashed = hash(file.path()).unwrap();
        assert_eq!((hashed.size, hashed.kept), (100_000, None));
        assert_eq!(
            hash(Path::new("/nowhere")).unwrap_err().reason,
            reason::NOT_FOUND
        );
    }
}
