//! Where the files of what is measured are.

use anyhow::{Context, bail};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::{
    fs::{File, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};
use tempfile::TempDir;

/// Makes the folder in which all temporary files of this program are from now on, and goes with it.
pub(crate) fn make() -> anyhow::Result<TempDir> {
    let folder = folder()?;
    if tempfile::env::override_temp_dir(folder.path()).is_err() {
        bail!("temporary files have a place already");
    }
    Ok(folder)
}

/// The folder, for programs that are started.
pub(crate) fn path() -> PathBuf {
    tempfile::env::temp_dir()
}

/// A folder in which each folder gets a part of the disk of its own, as those at the top of a file system
/// do: an ext4 without a journal looks past each file that was deleted near by within the last minutes
/// whenever one is made, and a measurement would pay for whatever was removed before it.
fn folder() -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("imgsys-bench-")
        // PostgreSQL runs as another user.
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .context("making a temporary folder")?;
    let handle = File::open(folder.path())?;
    // Other file systems know of no such thing, and need none.
    if let Ok(flags) = ioctl_getflags(&handle) {
        let _ = ioctl_setflags(&handle, flags | IFlags::TOPDIR);
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_folders_are_spread_over_a_disk_that_can_do_so() {
        let folder = folder().unwrap();
        let handle = File::open(folder.path()).unwrap();
        if let Ok(flags) = ioctl_getflags(&handle)
            && ioctl_setflags(&handle, flags | IFlags::TOPDIR).is_ok()
        {
            assert!(flags.contains(IFlags::TOPDIR));
        }
    }
}
