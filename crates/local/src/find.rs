//! Where the programs are that are started here.

use crate::Error;
use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian keeps PostgreSQL's programs out of PATH, in a folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Redis, or Valkey, which speaks the same and takes the same flags.
pub(crate) fn redis_server() -> Result<PathBuf, Error> {
    in_path("redis-server")
        .or_else(|| in_path("valkey-server"))
        .ok_or(Error::NotInstalled {
            program: "redis-server",
            package: "redis-server",
        })
}

/// The program that ties the life of a child to ours (see [`crate::process`]).
pub(crate) fn setpriv() -> Result<PathBuf, Error> {
    in_path("setpriv").ok_or(Error::NotInstalled {
        program: "setpriv",
        package: "util-linux",
    })
}

/// A program of this workspace: beside the running one, or in PATH.
pub(crate) fn sibling(program: &str) -> Result<PathBuf, Error> {
    let current = env::current_exe().map_err(Error::io("finding this program's file"))?;
    let mut beside = current.parent().unwrap_or(Path::new("/"));
    // Cargo puts test programs one folder below the others.
    if beside.ends_with("deps") || beside.ends_with("examples") {
        beside = beside.parent().unwrap_or(beside);
    }
    executable(beside.join(program))
        .or_else(|| in_path(program))
        .ok_or_else(|| Error::NotBuilt {
            program: program.to_owned(),
            beside: beside.to_owned(),
        })
}

/// What a person has to type to run this program of the workspace from the present folder.
pub(crate) fn typed(program: &str) -> String {
    let Ok(file) = sibling(program) else {
        return program.to_owned();
    };
    if in_path(program).is_some_and(|found| found == file) {
        return program.to_owned();
    }
    let here = env::current_dir().unwrap_or_default();
    file.strip_prefix(here)
        .unwrap_or(&file)
        .display()
        .to_string()
}

/// One installed version of PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    /// Folder of `initdb` and `postgres`.
    pub(crate) bin: PathBuf,
    /// As in `15.18`.
    pub(crate) version: String,
}

impl Installation {
    fn in_folder(bin: PathBuf) -> Option<Self> {
        executable(bin.join("initdb"))?;
        let postgres = executable(bin.join("postgres"))?;
        let out = Command::new(postgres).arg("--version").output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let version = text.split_whitespace().nth(2)?.to_owned();
        Some(Self { bin, version })
    }

    /// As data directories bear it in `PG_VERSION`.
    pub(crate) fn major(&self) -> &str {
        self.version
            .split_once(|c: char| !c.is_ascii_digit())
            .map_or(&self.version, |(major, _)| major)
    }
}

/// PostgreSQL: that of PATH, else Debian's newest; `accept` says which will do.
pub(crate) fn postgres(
    accept: impl Fn(&Installation) -> bool,
) -> Result<Option<Installation>, Error> {
    let folders = path_folders()
        .into_iter()
        .chain(debian_folders(Path::new(DEBIAN)));
    choose(folders, accept)
}

fn choose(
    folders: impl Iterator<Item = PathBuf>,
    accept: impl Fn(&Installation) -> bool,
) -> Result<Option<Installation>, Error> {
    let mut any = false;
    for bin in folders {
        if let Some(found) = Installation::in_folder(bin) {
            if accept(&found) {
                return Ok(Some(found));
            }
            any = true;
        }
    }
    if any {
        return Ok(None);
    }
    Err(Error::NotInstalled {
        program: "PostgreSQL (initdb, postgres)",
        package: "postgresql",
    })
}

fn debian_folders(versions: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(versions)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, bin)| bin).collect()
}

fn path_folders() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

fn in_path(program: &str) -> Option<PathBuf> {
    path_folders()
        .into_iter()
        .find_map(|folder| executable(folder.join(program)))
}

fn executable(file: PathBuf) -> Option<PathBuf> {
    let found = std::fs::metadata(&file).ok()?;
    (found.is_file() && found.permissions().mode() & 0o111 != 0).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder a version, with programs that can only tell it.
    fn installations(versions: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for version in versions {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}.3 (Debian)'\n");
            for program in ["initdb", "postgres"] {
                let file = bin.join(program);
                std::fs::write(&file, &script).unwrap();
                std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
            }
        }
        root
    }

    #[test]
    fn of_debians_versions_the_newest_is_taken() {
        let root = installations(&["9", "15", "13"]);
        let folders = || debian_folders(root.path()).into_iter();
        let newest = choose(folders(), |_| true).unwrap().unwrap();
        assert_eq!((newest.major(), newest.version.as_str()), ("15", "15.3"));
        let older = choose(folders(), |found| found.major() == "13").unwrap();
        assert_eq!(older.unwrap().bin, root.path().join("13/bin"));
        assert!(choose(folders(), |_| false).unwrap().is_none());
    }

    #[test]
    fn without_postgres_the_error_says_what_to_install() {
        let root = installations(&["15"]);
        // Debian's client package alone has such a folder too.
        std::fs::remove_file(root.path().join("15/bin/initdb")).unwrap();
        let folders = debian_folders(root.path()).into_iter();
        let error = choose(folders, |_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PostgreSQL (initdb, postgres) not found: apt-get install postgresql (or run scripts/setup)"
        );
    }
}
