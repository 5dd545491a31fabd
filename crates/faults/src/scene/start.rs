//! How the system is started as a case wants it.

use super::{Between, LEASE, Scene, Stage, program, supervisor::Supervisor};
use crate::{
    invariants::ServerPlace,
    link::{Link, Target},
    load::{Person, Plan},
};
use anyhow::{Context, ensure};
use imgsys_local::{Service, Spec, Stack, stack::Builder};
use std::{fs, path::Path, process::Command, sync::Arc};

impl Scene {
    /// Starts everything.
    pub fn start(stage: Stage) -> anyhow::Result<Self> {
        let dir = fs::canonicalize(stage.dir())?;
        let links = if stage.links { links()? } else { Vec::new() };
        let tokens = dir.join("tokens.toml");
        let people = people(&stage, &tokens)?;
        let stack = Arc::new(stack(&stage, &dir, &links, &tokens)?);
        let redis = dir.join("redis/redis.sock");
        let postgres = dir.join("postgres/.s.PGSQL.5432");
        for (between, link) in &links {
            link.lead_to(match between {
                Between::ClientsServer => Target::Tcp(stack.address()),
                Between::WorkersServer => Target::Tcp(stack.http_address().unwrap_or_default()),
                Between::ServerPostgres | Between::PersisterPostgres => {
                    Target::Unix(postgres.clone())
                }
                _ => Target::Unix(redis.clone()),
            });
        }
        let mut servers = vec![ServerPlace {
            address: stack.address(),
            images: dir.join("server/images"),
        }];
        let mut more = Vec::new();
        let add = |name: &str, program: &str, arguments: &[&str]| -> anyhow::Result<_> {
            let spec = Spec::sibling(name, program)?
                .arg("--config")
                .arg(stack.config_file())
                .args(arguments);
            let service = Arc::new(Service::new(spec, &dir));
            service.start()?;
            Ok(service)
        };
        if stage.second_server {
            let data = dir.join("server-2").display().to_string();
            let arguments = [
                "--data-dir",
                &data,
                "--listen",
                "127.0.0.1:0",
                "--http-listen=",
            ];
            let probe = add("server-2", "imgsys-server", &arguments)?;
            let address = probe
                .fact("LISTEN")
                .context("where the second server listens")?;
            probe.stop();
            // Started again, it is to be where its clients know it to be.
            let arguments = ["--data-dir", &data, "--listen", &address, "--http-listen="];
            more.push(add("server-2", "imgsys-server", &arguments)?);
            servers.push(ServerPlace {
                address,
                images: dir.join("server-2/images"),
            });
        }
        if stage.second_persister {
            more.push(add("persister-2", "imgsys-persister", &[])?);
        }
        if stage.poisoned {
            for number in 1..=stage.workers {
                let name = format!("poisoned-{number}");
                more.push(add(&name, "imgsys-poisoned-worker", &[])?);
            }
        }
        let through = links
            .iter()
            .find(|(between, _)| *between == Between::ClientsServer);
        let addresses = match through {
            Some((_, link)) => vec![link.address().to_string()],
            None => servers
                .iter()
                .map(|server| server.address.clone())
                .collect(),
        };
        let plan = Plan {
            addresses,
            people,
            in_flight: stage.in_flight,
            pace: stage.pace,
            seed: stage.seed,
        };
        let supervisor = stage
            .supervised
            .then(|| Supervisor::start(&stack, &more))
            .transpose()?;
        Ok(Self {
            load: None,
            supervisor,
            more,
            stack,
            links,
            disks: stage.disks,
            failing: stage.failing,
            ledger: Arc::default(),
            plan,
            servers,
            dir: stage.dir,
        })
    }
}

fn links() -> anyhow::Result<Vec<(Between, Link)>> {
    let mut links = Vec::new();
    for between in Between::ALL {
        links.push((between, Link::new().context("making a link")?));
    }
    Ok(links)
}

fn stack(
    stage: &Stage,
    dir: &Path,
    links: &[(Between, Link)],
    tokens: &Path,
) -> anyhow::Result<Stack> {
    let workers = if stage.poisoned { 0 } else { stage.workers };
    let source = |name: &str| format!("file://{}/", dir.join(name).join("images").display());
    let mut sources = vec![source("server"), source("server-2")];
    let mut builder = Stack::builder()
        .data(dir)
        .workers(workers)
        .set("worker.delay", format!("{}ms", stage.delay.as_millis()))
        .set("worker.lease", format!("{}s", LEASE.as_secs()))
        .set("worker.classifier", "simulated")
        .set("worker.threads", 2)
        .set("persister.claim_after", "3s")
        .set("server.sweep_interval", "1s");
    if stage.tokens {
        builder = builder.set("auth.tokens_file", tokens.display().to_string());
    }
    for (key, value) in &stage.settings {
        builder = builder.set(*key, value.clone());
    }
    for (between, link) in links {
        let address = link.address();
        let redis = format!("redis://{address}/0");
        let postgres = format!(
            "host={} port={} user=imgsys dbname=imgsys",
            address.ip(),
            address.port()
        );
        let give = |builder: Builder, part: &str| match between {
            Between::ServerPostgres | Between::PersisterPostgres => {
                builder.env(part, "IMGSYS_DATABASE_URL", postgres.clone())
            }
            _ => builder.env(part, "IMGSYS_REDIS_URL", redis.clone()),
        };
        builder = match between {
            Between::ClientsServer => builder,
            Between::ServerRedis | Between::ServerPostgres => give(builder, "server"),
            Between::PersisterRedis | Between::PersisterPostgres => give(builder, "persister"),
            Between::WorkersRedis => {
                (1..=workers).fold(builder, |builder, n| give(builder, &format!("worker-{n}")))
            }
            Between::WorkersServer => {
                let url = format!("http://{address}/images/");
                sources = vec![url.clone()];
                builder.set("server.image_url", url)
            }
        };
    }
    for (part, name, value) in &stage.variables {
        builder = builder.env(part, *name, value.clone());
    }
    Ok(builder.set("worker.image_sources", sources).start()?)
}

/// A token for each of the clients, of three owners in turn; without tokens they are all `local`.
fn people(stage: &Stage, tokens: &Path) -> anyhow::Result<Vec<Person>> {
    if !stage.tokens {
        let local = Person {
            owner: "local".into(),
            token: None,
        };
        return Ok(vec![local; stage.clients]);
    }
    let mut people = Vec::new();
    let names = ["anna", "bert", "chris"];
    for owner in names.iter().cycle().take(stage.clients) {
        let known = people
            .iter()
            .find(|person: &&Person| person.owner == *owner);
        let person = match known {
            Some(person) => person.clone(),
            None => Person {
                owner: (*owner).to_owned(),
                token: Some(new_token(tokens, owner)?),
            },
        };
        people.push(person);
    }
    Ok(people)
}

fn new_token(file: &Path, owner: &str) -> anyhow::Result<String> {
    let made = Command::new(program("imgsys-server")?)
        .arg("--auth-tokens-file")
        .arg(file)
        .args(["token", "new", owner, "--owner", owner])
        .output()
        .context("starting imgsys-server")?;
    ensure!(made.status.success(), "no token: {made:?}");
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}
