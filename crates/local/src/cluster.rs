//! PostgreSQL's data directory: made by `initdb`, with the role and the database `imgsys`.

use crate::{Error, Spec, files, find::Installation, process::Process, user::User};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// `initdb` takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The role is no superuser, and owns its database only.
const DATABASE: &str = "\
CREATE ROLE imgsys LOGIN
CREATE DATABASE imgsys OWNER imgsys
";

/// The same for tests, with half the files, since copying them is most of the time that a test's
/// server takes to start: PostgreSQL needs neither `postgres` nor `template0` to run.
const SMALL_DATABASE: &str = "\
CREATE ROLE imgsys LOGIN
ALTER DATABASE postgres RENAME TO imgsys
ALTER DATABASE imgsys OWNER TO imgsys
UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'
DROP DATABASE template0
";

/// The programs, the user they run as, the folder that this user may write to, and where what the
/// programs say goes.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) user: Option<&'a User>,
    pub(crate) folder: &'a Path,
    pub(crate) logs: &'a Path,
}

impl Maker<'_> {
    /// A cluster for real data.
    pub(crate) fn make(&self, data: &Path) -> Result<(), Error> {
        self.initialise(data, &[], DATABASE)
    }

    /// A cluster for a test, copied from one that the first test on this machine made.
    pub(crate) fn copy_small(&self, data: &Path) -> Result<(), Error> {
        let template = std::env::temp_dir().join(self.template_name());
        if !self.is_ours(&template) {
            self.make_template(&template)?;
        }
        if !self.is_ours(&template) {
            // Somebody else's directory bears this name: not to be trusted, not ours to remove.
            return self.make_small(data);
        }
        let copy = Spec::new("cp", "/bin/cp")
            .arg("-R")
            .arg(&template)
            .arg(data);
        self.run(copy).map(drop)
    }

    /// Whoever is first wins; the others of the same moment have made theirs in vain.
    fn make_template(&self, template: &Path) -> Result<(), Error> {
        let dir = files::temp_dir()?;
        if let Some(user) = self.user {
            user.own(dir.path())?;
        }
        let fresh = dir.path().join("data");
        let maker = Maker {
            folder: dir.path(),
            ..*self
        };
        maker.make_small(&fresh)?;
        match std::fs::rename(&fresh, template) {
            Err(_) if template.exists() => Ok(()),
            done => done.map_err(Error::io(format!("making {}", template.display()))),
        }
    }

    fn make_small(&self, data: &Path) -> Result<(), Error> {
        let flags = ["--no-sync", "--wal-segsize=1"];
        self.initialise(data, &flags, SMALL_DATABASE)
    }

    /// All or nothing: a directory of that name is a whole cluster.
    fn initialise(&self, data: &Path, flags: &[&str], sql: &str) -> Result<(), Error> {
        let fresh = data.with_extension("new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh)
                .map_err(Error::io(format!("removing {}", fresh.display())))?;
        }
        let initdb = Spec::new("initdb", self.installation.bin.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-instructions"])
            .args(flags)
            .arg("--pgdata")
            .arg(&fresh);
        self.run(initdb)?;
        // One that takes no connections: no socket, and no client programs are needed.
        let single = Spec::new("initdb", self.installation.bin.join("postgres"))
            .arg("--single")
            .arg("-D")
            .arg(&fresh)
            .args(["-c", "log_checkpoints=off", "template1"])
            .input(sql);
        let lines = self.run(single)?;
        // It goes on after an error and exits well.
        if let Some(line) = lines.iter().find(|line| line.contains("ERROR:")) {
            return Err(Error::Refused {
                name: "initdb".to_owned(),
                message: line.clone(),
            });
        }
        std::fs::rename(&fresh, data).map_err(Error::io(format!("making {}", data.display())))
    }

    fn run(&self, spec: Spec) -> Result<Vec<String>, Error> {
        let spec = spec.user(self.user).folder(self.folder);
        Process::run(&spec, self.logs, LIMIT)
    }

    fn uid(&self) -> u32 {
        self.user
            .map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
    }

    fn template_name(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (&self.installation.bin, &self.installation.version).hash(&mut hasher);
        SMALL_DATABASE.hash(&mut hasher);
        let (uid, hash) = (self.uid(), hasher.finish());
        format!("imgsys-initdb-{uid}-{hash:016x}").into()
    }

    fn is_ours(&self, template: &Path) -> bool {
        std::fs::symlink_metadata(template)
            .is_ok_and(|found| found.is_dir() && found.uid() == self.uid())
            && template.join("PG_VERSION").exists()
    }
}
