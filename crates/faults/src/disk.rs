//! Disks that can be filled, or that fail, without harm to anybody else: small file systems of our
//! own, unmounted in the end.

use crate::cases::Skipped;
use anyhow::{Context, ensure};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in memory.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB there. Skips the case where that is not allowed.
    pub fn mount(path: &Path, megabytes: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={megabytes}m,mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path);
        if let Err(problem) = run(&mut mount) {
            return Err(Skipped(format!("no file system can be mounted: {problem}")).into());
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it until nothing more fits.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast()).context("making the ballast")?;
        // Large pieces first, for speed; then what is left.
        for size in [1 << 20, 4096] {
            let piece = vec![0; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => {}
                    Err(problem) if problem.kind() == io::ErrorKind::StorageFull => break,
                    Err(problem) => return Err(problem).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("removing the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// An ext4 on a device whose writes begin to fail when told so: it lies in a file on a disk that
/// is filled then. A flush of it fails with EIO, as on a disk that breaks.
#[derive(Debug)]
pub struct FailingDisk {
    path: PathBuf,
    // Declared last: the device's file is on it.
    below: SmallDisk,
}

impl FailingDisk {
    /// Makes one and mounts it there. Skips the case where that can't be done.
    pub fn mount(path: &Path, below: &Path) -> anyhow::Result<Self> {
        let below = SmallDisk::mount(below, 160)?;
        let image = below.path().join("device");
        File::create(&image)?.set_len(512 << 20)?;
        let mut format = Command::new("mkfs.ext4");
        if let Err(problem) = run(format.args(["-q", "-F"]).arg(&image)) {
            return Err(Skipped(format!("no ext4 can be made: {problem}")).into());
        }
        fs::create_dir_all(path)?;
        let disk = Self {
            path: path.to_owned(),
            below,
        };
        if let Err(problem) = disk.attach() {
            return Err(Skipped(format!("no loop device can be mounted: {problem}")).into());
        }
        Ok(disk)
    }

    fn attach(&self) -> anyhow::Result<()> {
        let image = self.below.path().join("device");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(&self.path))
    }

    /// From now on what is written to new places fails when it is flushed.
    pub fn fail(&self) -> anyhow::Result<()> {
        self.below.fill()
    }

    /// The disk is replaced by one that works, with what had reached it. Nobody may use it.
    pub fn repair(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.path)).context("unmounting the failing disk")?;
        self.below.empty()?;
        let image = self.below.path().join("device");
        let checked = Command::new("e2fsck")
            .args(["-p", "-f"])
            .arg(&image)
            .output()
            .context("starting e2fsck")?;
        // 1: errors were corrected.
        let code = checked.status.code();
        ensure!(matches!(code, Some(0 | 1)), "e2fsck: {checked:?}");
        self.attach()
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

fn unmount(path: &Path) {
    let gone = run(Command::new("umount").arg(path));
    // Somebody may still be on the way out of it; it goes when the last has left.
    if gone.is_err()
        && let Err(problem) = run(Command::new("umount").arg("--lazy").arg(path))
    {
        eprintln!("imgsys-faults: {} stays mounted: {problem}", path.display());
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .output()
        .with_context(|| format!("starting {program}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program}: {}", said.trim());
    Ok(())
}
