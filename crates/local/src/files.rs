//! Directories and files, with errors that name them.

use crate::Error;
use std::{
    fs::{File, Metadata, OpenOptions, Permissions, TryLockError},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Bytes of a socket's path that the kernel takes, without the NUL at its end.
const MAX_SOCKET_PATH: usize = 107;

/// Makes the directory, for us alone, unless it is there; those above it as the system does.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    let doing = format!("making {}", dir.display());
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(doing.clone()))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if !dir.is_dir() => Err(Error::io(doing)(error)),
        _ => Ok(()),
    }
}

/// Lets others pass through the directory, without seeing what it holds.
pub(crate) fn let_pass(dir: &Path) -> Result<(), Error> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o711))
        .map_err(Error::io(format!("setting the mode of {}", dir.display())))
}

/// A directory for us alone that goes away with its guard.
pub(crate) fn temp_dir() -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new()
        .prefix("imgsys-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(Error::io("making a temporary directory"))
}

pub(crate) fn metadata(path: &Path) -> Result<Metadata, Error> {
    std::fs::metadata(path).map_err(Error::io(format!("looking at {}", path.display())))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// The path as it is without `.`, `..` and links: children have other working directories.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(path).map_err(Error::io(format!("finding {}", path.display())))
}

/// Checks that a socket can have this path, and that it means the same in a URL.
pub(crate) fn check_socket(path: &Path) -> Result<(), Error> {
    let text = path.to_string_lossy();
    let special = |c: char| "%?#'\"\\,\u{fffd}".contains(c) || c.is_control();
    if let Some(character) = text.chars().find(|c| special(*c)) {
        return Err(Error::OddPath {
            path: path.to_owned(),
            character,
        });
    }
    let excess = path
        .as_os_str()
        .as_bytes()
        .len()
        .saturating_sub(MAX_SOCKET_PATH);
    if excess == 0 {
        return Ok(());
    }
    Err(Error::LongPath {
        path: path.to_owned(),
        excess,
    })
}

/// Holds the data directory for this process; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "held, not read")] File);

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let doing = format!("locking {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(doing.clone()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(Error::InUse {
                    dir: dir.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(doing)(error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::io(doing))?;
        Ok(Self(file))
    }
}
