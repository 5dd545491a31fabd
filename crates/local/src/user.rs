//! The user that PostgreSQL runs as, since it refuses to be root.

use crate::{Error, files};
use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A user to run a program as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// An unprivileged user if this process is root, else `None`: the program runs as we do.
    pub(crate) fn unprivileged() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(Self::named)
            .map(Some)
            .ok_or(Error::NoUser)
    }

    fn named(name: &str) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            uid: id("-u", name)?,
            gid: id("-g", name)?,
        })
    }

    /// Makes `command` run as this user, without our other groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the directory to this user.
    pub(crate) fn own(&self, dir: &Path) -> Result<(), Error> {
        std::os::unix::fs::chown(dir, Some(self.uid), Some(self.gid)).map_err(Error::io(format!(
            "giving {} to {}",
            dir.display(),
            self.name
        )))
    }

    /// Tells which directory keeps this user out of `dir`, if one does.
    pub(crate) fn check_reach(&self, dir: &Path) -> Result<(), Error> {
        // The kernel is asked, since it alone knows of ACLs and mount options; the modes then
        // only serve to name the culprit.
        let mut attempt = Command::new("/bin/sh");
        attempt
            .args(["-c", "cd -- \"$1\"", "sh"])
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.apply(&mut attempt);
        let status = attempt
            .status()
            .map_err(Error::io(format!("running sh as {}", self.name)))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Blocked {
            user: self.name.clone(),
            blocker: self.blocker(dir).unwrap_or_else(|| dir.to_owned()),
            dir: dir.to_owned(),
        })
    }

    fn blocker(&self, dir: &Path) -> Option<PathBuf> {
        let mut ancestors: Vec<&Path> = dir.ancestors().collect();
        ancestors.reverse();
        ancestors
            .into_iter()
            .find(|ancestor| files::metadata(ancestor).is_ok_and(|found| !self.may_enter(&found)))
            .map(Path::to_owned)
    }

    fn may_enter(&self, dir: &std::fs::Metadata) -> bool {
        let bit = if dir.uid() == self.uid {
            0o100
        } else if dir.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        dir.mode() & bit != 0
    }
}

fn id(flag: &str, name: &str) -> Option<u32> {
    let out = Command::new("id").args([flag, name]).output().ok()?;
    String::from_utf8(out.stdout).ok()?.trim().parse().ok()
}
