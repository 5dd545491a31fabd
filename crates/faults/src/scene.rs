//! The system under load, with all that can be broken about it.

mod programs;
mod stage;
mod start;
mod supervisor;

pub use programs::{faketime, program};
pub use stage::Stage;

use crate::{
    disk::{FailingDisk, SmallDisk},
    images::Sample,
    invariants::{ServerPlace, World},
    ledger::{End, Ledger},
    link::Link,
    load::{Load, Person, Plan},
};
use anyhow::{Context, bail, ensure};
use imgsys_local::{Service, Stack};
use postgres::NoTls;
use std::{
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};
use supervisor::Supervisor;
use tempfile::TempDir;

/// How long a task stays a worker's without a sign of life, in all cases: as short as can be, so
/// that those of killed workers come back soon.
pub const LEASE: Duration = Duration::from_secs(3);
/// The longest that anything may take that has to happen. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Two parts with a connection between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Clients and the server.
    ClientsServer,
    /// The server and Redis.
    ServerRedis,
    /// The workers and Redis.
    WorkersRedis,
    /// The persister and Redis.
    PersisterRedis,
    /// The server and PostgreSQL.
    ServerPostgres,
    /// The persister and PostgreSQL.
    PersisterPostgres,
    /// The workers and the server whose images they fetch.
    WorkersServer,
}

impl Between {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ClientsServer,
        Self::ServerRedis,
        Self::WorkersRedis,
        Self::PersisterRedis,
        Self::ServerPostgres,
        Self::PersisterPostgres,
        Self::WorkersServer,
    ];
}

/// The running system, its clients, and what they know.
#[derive(Debug)]
pub struct Scene {
    // In the order in which they are to go: clients, programs, links, disks, the directory.
    load: Option<Load>,
    supervisor: Option<Supervisor>,
    more: Vec<Arc<Service>>,
    stack: Arc<Stack>,
    links: Vec<(Between, Link)>,
    disks: Vec<SmallDisk>,
    failing: Option<FailingDisk>,
    ledger: Arc<Ledger>,
    plan: Plan,
    servers: Vec<ServerPlace>,
    dir: TempDir,
}

impl Scene {
    /// Starts the clients.
    pub fn load(&mut self) -> anyhow::Result<()> {
        if !self.plan.people.is_empty() {
            self.load = Some(Load::start(&self.plan, &self.ledger)?);
        }
        Ok(())
    }

    /// Has the clients send nothing new and waits for their answers; the clients that hang.
    pub fn finish(&mut self) -> usize {
        self.load.take().map_or(0, |load| load.finish(PATIENCE))
    }

    /// The programs.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A program that is there besides the usual ones.
    pub fn more(&self, name: &str) -> anyhow::Result<&Service> {
        let found = self.more.iter().find(|service| service.name() == name);
        found
            .map(|service| &**service)
            .with_context(|| format!("there is no {name}"))
    }

    /// What the clients know.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where the servers are.
    #[must_use]
    pub fn servers(&self) -> &[ServerPlace] {
        &self.servers
    }

    /// One who sends.
    pub fn person(&self) -> anyhow::Result<&Person> {
        self.plan.people.first().context("nobody sends anything")
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The disk of this directory.
    pub fn disk(&self, name: &str) -> anyhow::Result<&SmallDisk> {
        let path = self.dir().join(name);
        let found = self.disks.iter().find(|disk| disk.path() == path);
        found.with_context(|| format!("{name} has no disk of its own"))
    }

    /// The disk that can fail.
    pub fn failing(&self) -> anyhow::Result<&FailingDisk> {
        self.failing.as_ref().context("no disk can fail")
    }

    /// A link.
    pub fn link(&self, between: Between) -> anyhow::Result<&Link> {
        let found = self.links.iter().find(|(found, _)| *found == between);
        found
            .map(|(_, link)| link)
            .with_context(|| format!("{between:?} are not linked"))
    }

    /// A connection to Redis, around all links.
    pub fn redis(&self) -> anyhow::Result<redis::Connection> {
        let client = redis::Client::open(self.stack.redis().url())?;
        client.get_connection().context("connecting to Redis")
    }

    /// A session of PostgreSQL's superuser, around all links.
    pub fn postgres(&self) -> anyhow::Result<postgres::Client> {
        let url = self
            .stack
            .postgres()
            .url()
            .replace("user=imgsys", "user=postgres");
        postgres::Client::connect(&url, NoTls).context("connecting to PostgreSQL")
    }

    /// What is to be looked at in the end.
    #[must_use]
    pub fn world(&self) -> World {
        World {
            redis: self.stack.redis().url(),
            database: self.stack.postgres().url(),
            servers: self.servers.clone(),
            people: self.plan.people.clone(),
            lease: LEASE,
        }
    }

    /// Sends these images in one's own name, and waits for the answers.
    pub fn send(&self, samples: &[Sample], end: End) -> anyhow::Result<()> {
        let plan = Plan {
            people: vec![self.person()?.clone()],
            ..self.plan.clone()
        };
        let load = Load::of(&plan, samples, end, &self.ledger)?;
        ensure!(load.finish(PATIENCE) == 0, "no answers");
        Ok(())
    }

    /// Waits for the answers to these jobs, which were accepted from one that is gone.
    pub fn watch(&self, samples: &[Sample]) -> anyhow::Result<()> {
        let load = Load::watching(&self.plan, samples, &self.ledger)?;
        ensure!(load.finish(PATIENCE) == 0, "no answers");
        Ok(())
    }

    /// Waits until so many more answers have come.
    pub fn await_answers(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.ledger.answered_count() + more;
        until("answers", || Ok(self.ledger.answered_count() >= goal))
    }

    /// Waits until so many more jobs were accepted.
    pub fn await_accepted(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.ledger.accepted_count() + more;
        until("jobs to be accepted", || {
            Ok(self.ledger.accepted_count() >= goal)
        })
    }

    /// Waits until the database has more results than now; how long that took.
    pub fn await_rows(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut client = self.postgres()?;
        let mut count = || -> anyhow::Result<i64> {
            let row = client.query_one("SELECT count(*) FROM predictions", &[])?;
            Ok(row.get(0))
        };
        let before = count()?;
        until("rows", || Ok(count()? > before))?;
        Ok(start.elapsed())
    }

    /// The last lines of all programs' logs, for people who look for what went wrong.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for service in self.services() {
            let lines = service.last_lines().join("\n  ");
            text = format!("{text}{}:\n  {lines}\n", service.name());
        }
        text
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        let stack = &self.stack;
        [stack.server(), stack.persister()]
            .into_iter()
            .chain(stack.workers())
            .chain([stack.redis().service(), stack.postgres().service()])
            .chain(self.more.iter().map(|service| &**service))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Before the programs go, or they would be started anew.
        drop(self.supervisor.take());
        drop(self.load.take());
        // Disks are unmounted after this, and nobody may be on them.
        for service in &self.more {
            service.kill();
        }
        self.stack.server().kill();
        self.stack.postgres().kill();
        self.stack.redis().kill();
    }
}

/// Waits until it is so.
pub fn until(what: &str, mut is: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is()? {
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
