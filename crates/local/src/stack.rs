//! The whole system in one data directory.
//!
//! | in the directory | is |
//! |---|---|
//! | `imgsys.toml` | the configuration that all programs got |
//! | `redis/`, `postgres/`, `server/` | what each keeps |
//! | `log/` | a file a part |
//! | `run/` | sockets on which parts tell that they are ready |
//! | `lock` | held while the system runs |

use crate::{
    Error, Postgres, Redis, Service, Spec, Tuning,
    files::{self, DirLock},
    process::Process,
};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use toml::{Table, Value};

/// How long the migration of the schema may take.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// Redis, PostgreSQL, persister, server and workers, all running. Dropped, they are killed; a
/// temporary directory is removed with them.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they are to go.
    server: Service,
    workers: Vec<Service>,
    persister: Service,
    postgres: Postgres,
    redis: Redis,
    config: Mutex<Table>,
    dir: PathBuf,
    _lock: DirLock,
    _temporary: Option<tempfile::TempDir>,
}

/// What a [`Stack`] is to be like.
#[derive(Debug)]
pub struct Builder {
    data: Option<PathBuf>,
    workers: usize,
    tuning: Tuning,
    settings: Vec<(String, Value)>,
    variables: Vec<(String, String, String)>,
}

impl Stack {
    /// One worker, free ports, a temporary directory, tuned for tests.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            data: None,
            workers: 1,
            tuning: Tuning::Fast,
            settings: Vec::new(),
            variables: Vec::new(),
        }
        .set("server.listen", "127.0.0.1:0")
        .set("server.http_listen", "127.0.0.1:0")
        .set("worker.http_listen", "127.0.0.1:0")
        .set("persister.http_listen", "127.0.0.1:0")
    }

    /// Where clients are served, as `127.0.0.1:41234`. It stays over restarts of the server.
    #[must_use]
    pub fn address(&self) -> String {
        self.server.fact("LISTEN").unwrap_or_default()
    }

    /// Where the server's HTTP side is, if it has one.
    #[must_use]
    pub fn http_address(&self) -> Option<String> {
        self.server.fact("HTTP")
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Service {
        &self.server
    }

    /// The persister.
    #[must_use]
    pub fn persister(&self) -> &Service {
        &self.persister
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[Service] {
        &self.workers
    }

    /// Redis.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// PostgreSQL.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file, for further programs that join in.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        config_file(&self.dir)
    }

    /// Sets `section.key` in the configuration, for programs that are started from now on.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        insert(&mut config, key, value.into())?;
        write_config(&self.dir, &config)
    }

    /// The error of a part that ended by itself, if one did.
    #[must_use]
    pub fn death(&self) -> Option<Error> {
        self.services().find_map(Service::death)
    }

    /// Stops everything, each part in its own way and after those that need it.
    pub fn stop(&self) {
        self.server.stop();
        // All at once: each may take its time over what it runs.
        self.workers.iter().for_each(Service::ask_to_stop);
        self.workers.iter().for_each(Service::stop);
        self.persister.stop();
        self.postgres.stop();
        self.redis.stop();
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        [&self.server, &self.persister]
            .into_iter()
            .chain(&self.workers)
            .chain([self.postgres.service(), self.redis.service()])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A failing test's logs go with its directory.
        if std::thread::panicking() {
            for service in self.services() {
                let lines = service.last_lines().join("\n  ");
                eprintln!("last lines of {}:\n  {lines}", service.name());
            }
        }
    }
}

impl Builder {
    /// Keeps everything in this directory, which is made if need be, and stays.
    #[must_use]
    pub fn data(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data = Some(dir.into());
        self
    }

    /// How many workers to start.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// What PostgreSQL gives up for speed.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Sets `section.key` in the configuration, as `set("worker.delay", "20ms")`.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Sets a variable in the environment of one part only: `server`, `persister`, `worker-1`…
    /// So a part can be told another `IMGSYS_REDIS_URL` than the configuration that all share.
    #[must_use]
    pub fn env(
        mut self,
        part: impl Into<String>,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        let variable = (part.into(), name.into(), value.into());
        self.variables.push(variable);
        self
    }

    /// Starts everything and waits until all of it is ready.
    pub fn start(self) -> Result<Stack, Error> {
        let (dir, temporary) = self.directory()?;
        let lock = DirLock::take(&dir)?;
        let logs = dir.join("log");
        files::make_dir(&dir.join("server"))?;
        // All that may be missing is looked for before anything is started.
        let redis = Redis::new(&dir.join("redis"), &logs)?;
        let programs = Programs::find(&dir, self.workers)?;
        let postgres = Postgres::new(&dir.join("postgres"), &logs, self.tuning)?;

        let config = self.config(&dir, &redis, &postgres)?;
        write_config(&dir, &config)?;
        let Programs {
            migrate,
            persister,
            server,
            workers,
        } = programs.sealed(&config).with(&self.variables);

        redis.service().begin()?;
        postgres.start()?;
        redis.start()?;
        Process::run(&migrate, &logs, MIGRATION_LIMIT)?;
        let stack = Stack {
            server: Service::new(server, &dir),
            workers: workers
                .into_iter()
                .map(|worker| Service::new(worker, &dir))
                .collect(),
            persister: Service::new(persister, &dir),
            postgres,
            redis,
            config: Mutex::new(config),
            dir,
            _lock: lock,
            _temporary: temporary,
        };
        stack.start_programs()?;
        Ok(stack)
    }

    fn directory(&self) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
        if let Some(dir) = &self.data {
            return Ok((open_data(dir)?, None));
        }
        let temporary = files::temp_dir()?;
        files::let_pass(temporary.path())?;
        Ok((files::absolute(temporary.path())?, Some(temporary)))
    }

    fn config(&self, dir: &Path, redis: &Redis, postgres: &Postgres) -> Result<Table, Error> {
        let server = dir.join("server");
        let images = format!("file://{}/", server.join("images").display());
        let mut config = Table::new();
        let places = [
            ("server.data_dir", Value::from(server.display().to_string())),
            ("worker.image_sources", Value::from(vec![images])),
            ("redis.url", Value::from(redis.url())),
            ("database.url", Value::from(postgres.url())),
        ];
        for (key, value) in places {
            insert(&mut config, key, value)?;
        }
        for (key, value) in &self.settings {
            insert(&mut config, key, value.clone())?;
        }
        Ok(config)
    }
}

impl Stack {
    fn start_programs(&self) -> Result<(), Error> {
        let programs = || {
            [&self.persister, &self.server]
                .into_iter()
                .chain(&self.workers)
        };
        for program in programs() {
            program.begin()?;
        }
        for program in programs() {
            program.await_ready()?;
        }
        // Clients know the server by the ports it got; it comes back on the same.
        for (key, fact) in [("server.listen", "LISTEN"), ("server.http_listen", "HTTP")] {
            if let Some(address) = self.server.fact(fact) {
                self.set(key, address)?;
            }
        }
        Ok(())
    }
}

/// How our programs are started.
struct Programs {
    migrate: Spec,
    persister: Spec,
    server: Spec,
    workers: Vec<Spec>,
}

impl Programs {
    fn find(dir: &Path, workers: usize) -> Result<Self, Error> {
        let spec = |name: String, program: &str| {
            Spec::sibling(name, program).map(|spec| spec.arg("--config").arg(config_file(dir)))
        };
        Ok(Self {
            migrate: spec("migrate".to_owned(), "imgsys-persister")?.arg("migrate"),
            persister: spec("persister".to_owned(), "imgsys-persister")?,
            server: spec("server".to_owned(), "imgsys-server")?,
            workers: (1..=workers)
                .map(|number| spec(format!("worker-{number}"), "imgsys-worker"))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Without the variables that would override what the configuration file says: others may tune.
    fn sealed(self, config: &Table) -> Self {
        let keys: Vec<String> = config
            .iter()
            .filter_map(|(section, keys)| Some((section, keys.as_table()?)))
            .flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}_{key}")))
            .map(|key| format!("IMGSYS_{}", key.to_uppercase()))
            .collect();
        let seal = |spec: Spec| keys.iter().fold(spec, Spec::without_env);
        Self {
            migrate: seal(self.migrate),
            persister: seal(self.persister),
            server: seal(self.server),
            workers: self.workers.into_iter().map(seal).collect(),
        }
    }
}

impl Programs {
    /// With the variables that single parts get, which go before those that were left out.
    fn with(self, variables: &[(String, String, String)]) -> Self {
        let give = |spec: Spec| {
            let own: Vec<_> = variables
                .iter()
                .filter(|(part, _, _)| part == spec.name())
                .collect();
            own.into_iter()
                .fold(spec, |spec, (_, name, value)| spec.env(name, value))
        };
        Self {
            migrate: self.migrate,
            persister: give(self.persister),
            server: give(self.server),
            workers: self.workers.into_iter().map(give).collect(),
        }
    }
}

fn config_file(dir: &Path) -> PathBuf {
    dir.join("imgsys.toml")
}

fn insert(config: &mut Table, key: &str, value: Value) -> Result<(), Error> {
    let wrong = || Error::Key {
        key: key.to_owned(),
    };
    let (section, name) = key.split_once('.').ok_or_else(wrong)?;
    let section = config
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    let table = section.as_table_mut().ok_or_else(wrong)?;
    table.insert(name.to_owned(), value);
    Ok(())
}

fn write_config(dir: &Path, config: &Table) -> Result<(), Error> {
    let text = format!("# Written by imgsys-local at every start.\n\n{config}");
    files::write(&config_file(dir), &text)
}

/// A directory for data that stays. One that holds somebody's files is left alone.
fn open_data(dir: &Path) -> Result<PathBuf, Error> {
    let fresh = !dir.exists();
    files::make_dir(dir)?;
    let dir = files::absolute(dir)?;
    if fresh && rustix::process::geteuid().is_root() {
        // PostgreSQL runs as another user then.
        files::let_pass(&dir)?;
    }
    let mut entries = std::fs::read_dir(&dir)
        .map_err(Error::io(format!("reading {}", dir.display())))?
        .flatten();
    if entries.next().is_some() && !dir.join("lock").exists() {
        return Err(Error::NotOurs { dir });
    }
    Ok(dir)
}
