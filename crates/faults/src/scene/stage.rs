//! What a case wants to be there before anything is started.

use crate::disk::{FailingDisk, SmallDisk};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tempfile::TempDir;

/// What a case wants to be there before anything is started.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Stage {
    /// The directory of everything.
    pub(super) dir: TempDir,
    /// Workers.
    pub workers: usize,
    /// Whether the parts speak to each other over links that can be made to hang.
    pub links: bool,
    /// Whether clients have tokens, and so are of several owners. Not with links: a worker that
    /// fetches over HTTP would need one too.
    pub tokens: bool,
    /// Whether there is a second server.
    pub second_server: bool,
    /// Whether there is a second persister.
    pub second_persister: bool,
    /// Whether the workers die of poison.
    pub poisoned: bool,
    /// Whether parts that end are started anew, as a service manager would.
    pub supervised: bool,
    /// Clients.
    pub clients: usize,
    /// Jobs of a client without an answer, at most.
    pub in_flight: usize,
    /// Between two submits of a client.
    pub pace: Duration,
    /// How long an analysis takes.
    pub delay: Duration,
    /// Repeats what the clients do.
    pub seed: u64,
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) variables: Vec<(String, &'static str, String)>,
    pub(super) disks: Vec<SmallDisk>,
    pub(super) failing: Option<FailingDisk>,
}

impl Stage {
    /// Two workers, four clients of three owners, 160 images a second.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("imgsys-faults-")
            .tempdir()?;
        // PostgreSQL runs as another user if we are root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        // The directory is ours, though it will not be empty.
        fs::write(dir.path().join("lock"), "")?;
        Ok(Self {
            dir,
            workers: 2,
            links: false,
            tokens: true,
            second_server: false,
            second_persister: false,
            poisoned: false,
            supervised: false,
            clients: 4,
            in_flight: 500,
            pace: Duration::from_millis(25),
            delay: Duration::from_millis(5),
            seed,
            settings: Vec::new(),
            variables: Vec::new(),
            disks: Vec::new(),
            failing: None,
        })
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sets `section.key` for all programs.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.settings.push((key, value.into()));
    }

    /// Sets a variable of one part's environment.
    pub fn env(&mut self, part: impl Into<String>, name: &'static str, value: impl Into<String>) {
        self.variables.push((part.into(), name, value.into()));
    }

    /// Puts a directory below [`Stage::dir`] on a disk of its own.
    pub fn disk(&mut self, name: &str, megabytes: u32) -> anyhow::Result<()> {
        let disk = SmallDisk::mount(&self.dir().join(name), megabytes)?;
        // The last is unmounted first: it may lie on another.
        self.disks.insert(0, disk);
        Ok(())
    }

    /// Puts a directory below [`Stage::dir`] on a disk that can fail.
    pub fn failing_disk(&mut self, name: &str) -> anyhow::Result<()> {
        let (path, below) = (self.dir().join(name), self.dir().join("device"));
        self.failing = Some(FailingDisk::mount(&path, &below)?);
        Ok(())
    }
}
