//! The systems that are measured: ours, and the Python system that does the same.

use crate::{
    image::Images,
    load::{Plan, Until},
    processes,
    wire::Wire,
};
use anyhow::{Context, bail};
use imgsys_local::{Stack, Tuning, stack::Builder};
use imgsys_proto::{
    ClientMessage, PREFIX_LEN, Prefix, ServerMessage, decode, encode, message::Request,
};
use imgsys_types::Priority;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The longest that rows are waited for after a load.
const DRAIN: Duration = Duration::from_secs(120);

/// A system that is up.
#[derive(Debug)]
pub struct System {
    /// How reports call it.
    pub name: &'static str,
    wire: Wire,
    address: String,
    /// The processes at the top of each of its parts.
    parts: BTreeMap<&'static str, Vec<u32>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ours(Box<Stack>),
    Peer(Peer),
}

/// What no part of a system but its own programs is made of.
pub const STORES: [&str; 2] = ["redis", "postgres"];

impl System {
    /// Ours, with one worker that looks at an image's header and simulates the rest.
    pub fn ours(name: &'static str, durability: &str) -> anyhow::Result<Self> {
        let builder = noop().set("server.durability", durability);
        Self::of(name, builder.start()?)
    }

    /// Ours, as it has been started.
    pub fn of(name: &'static str, stack: Stack) -> anyhow::Result<Self> {
        let address = stack.address();
        let parts = parts(&stack)?;
        Ok(Self {
            name,
            wire: Wire::Imgsys,
            address,
            parts,
            kind: Kind::Ours(Box::new(stack)),
        })
    }

    /// The peer, started by this program; `None` if it can't be had, and the program has said why.
    pub fn peer(program: &Path) -> anyhow::Result<Option<Self>> {
        let Some((peer, up)) = Peer::start(program)? else {
            return Ok(None);
        };
        let mut parts = BTreeMap::new();
        for part in ["server", "worker", "redis", "postgres"] {
            let pid = up
                .pids
                .get(part)
                .with_context(|| format!("the peer's {part}"))?;
            parts.insert(part, vec![*pid]);
        }
        Ok(Some(Self {
            name: "peer",
            wire: Wire::Peer,
            address: up.address,
            parts,
            kind: Kind::Peer(peer),
        }))
    }

    /// Ours as it was started, if it is that.
    #[must_use]
    pub const fn stack(&self) -> Option<&Stack> {
        match &self.kind {
            Kind::Ours(stack) => Some(stack),
            Kind::Peer(_) => None,
        }
    }

    /// A closed loop on this system.
    #[must_use]
    pub fn plan(
        &self,
        images: &Arc<Images>,
        (connections, window): (usize, usize),
        until: Until,
    ) -> Plan {
        Plan {
            address: self.address.clone(),
            wire: self.wire,
            images: Arc::clone(images),
            priority: Priority::default(),
            connections,
            window,
            rate: None,
            until,
        }
    }

    /// The processor time that each part has taken, in seconds.
    #[must_use]
    pub fn cpu(&self) -> BTreeMap<&'static str, f64> {
        let parts = self.parts.iter();
        parts
            .map(|(&part, pids)| (part, processes::cpu(pids)))
            .collect()
    }

    /// The memory of its own programs in bytes: without Redis and PostgreSQL.
    #[must_use]
    pub fn memory(&self) -> BTreeMap<&'static str, u64> {
        let parts = self.parts.iter().filter(|(part, _)| !STORES.contains(part));
        parts
            .map(|(&part, pids)| (part, processes::pss(pids)))
            .collect()
    }

    /// Forgets the images of earlier loads, where that is needed to count those of the next.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Ours(_) => Ok(()),
            Kind::Peer(peer) => peer.ask::<bool>("reset").map(drop),
        }
    }

    /// Waits until all images of the load are in the database; the peer has so many rows then.
    pub fn drain(&mut self, rows: u64) -> anyhow::Result<()> {
        let until = Instant::now() + DRAIN;
        loop {
            let left = match &mut self.kind {
                Kind::Ours(_) => unsaved(&self.address)?,
                Kind::Peer(peer) => rows.saturating_sub(peer.ask("rows")?),
            };
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "{}: {left} of {rows} images are not in the database",
                    self.name
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ours with nothing to do but what every image costs, on stores that keep what they are given.
#[must_use]
pub fn noop() -> Builder {
    Stack::builder()
        .tuning(Tuning::Durable)
        .set("worker.classifier", "simulated")
        .set("worker.decode", "header")
}

fn parts(stack: &Stack) -> anyhow::Result<BTreeMap<&'static str, Vec<u32>>> {
    let mut parts = BTreeMap::new();
    let services = [
        ("server", stack.server()),
        ("persister", stack.persister()),
        ("redis", stack.redis().service()),
        ("postgres", stack.postgres().service()),
    ];
    let workers = stack.workers().iter().map(|worker| ("worker", worker));
    for (part, service) in services.into_iter().chain(workers) {
        let pid = service
            .pid()
            .with_context(|| format!("{part} does not run"))?;
        parts.entry(part).or_insert_with(Vec::new).push(pid);
    }
    Ok(parts)
}

/// Jobs that a server of ours still has in its spool.
pub fn unsaved(address: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&Wire::Imgsys.hello()?)?;
    answer(&mut stream)?;
    let mut request = Vec::new();
    encode(&ClientMessage::Status(Request { req: 1 }), 0, &mut request)?;
    stream.write_all(&request)?;
    match answer(&mut stream)? {
        ServerMessage::Status(status) => Ok(status.spool),
        other => bail!("no status but {other:?}"),
    }
}

/// The next message of a server of ours that has no body.
pub(crate) fn answer(stream: &mut TcpStream) -> anyhow::Result<ServerMessage> {
    let mut prefix = [0; PREFIX_LEN];
    stream.read_exact(&mut prefix)?;
    let mut head = vec![0; Prefix::parse(prefix)?.head];
    stream.read_exact(&mut head)?;
    Ok(decode(&head)?)
}

/// The program that keeps the peer up.
#[derive(Debug)]
struct Peer {
    child: Child,
    // Closed, it ends.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What it says at first.
#[derive(Deserialize)]
struct Up {
    address: String,
    pids: BTreeMap<String, u32>,
}

/// How it ends if it can't be there, and has said why.
const ABSENT: i32 = 77;

impl Peer {
    fn start(program: &Path) -> anyhow::Result<Option<(Self, Up)>> {
        let mut child = Command::new(program)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is ours; it ends when we do.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the peer's output")?;
        let mut peer = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        match peer.line() {
            Ok(up) => Ok(Some((peer, up))),
            Err(problem) => match peer.child.wait()?.code() {
                Some(ABSENT) => Ok(None),
                _ => Err(problem.context("starting the peer")),
            },
        }
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, what: &str) -> anyhow::Result<T> {
        let input = self.input.as_mut().context("the peer's input")?;
        writeln!(input, "{what}").with_context(|| format!("asking the peer for {what}"))?;
        self.line()
            .with_context(|| format!("asking the peer for {what}"))
    }

    fn line<T: for<'de> Deserialize<'de>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.input = None;
        if let Err(problem) = self.child.wait() {
            eprintln!("imgsys-bench: waiting for the peer's end: {problem}");
        }
    }
}
