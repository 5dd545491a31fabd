//! The systems that are measured: ours, and the Python system that does the same.

use crate::{
    image::Images,
    load::{Plan, Until},
    place, processes,
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
pub(crate) struct System {
    /// How reports call it.
    pub(crate) name: &'static str,
    wire: Wire,
    address: String,
    /// The processes at the top of each of its parts.
    parts: BTreeMap<&'static str, Vec<u32>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ours(Box<Stack>),
    // And its rows before the load.
    Peer(Peer, u64),
}

/// What no part of a system but its own programs is made of.
pub(crate) const STORES: [&str; 2] = ["redis", "postgres"];

impl System {
    /// Ours, with one worker that looks at an image's header and simulates the rest. Like the peer it keeps
    /// no Celery results, for its client has the answer, unless they are asked for.
    pub(crate) fn ours(
        name: &'static str,
        durability: &str,
        celery_results: bool,
    ) -> anyhow::Result<Self> {
        let mut builder = noop().set("server.durability", durability);
        if !celery_results {
            builder = builder.set("celery.result_expires", "0s");
        }
        Self::start(name, builder)
    }

    fn of(name: &'static str, stack: Stack) -> Self {
        let address = stack.address();
        let parts = parts(&stack);
        Self {
            name,
            wire: Wire::Imgsys,
            address,
            parts,
            kind: Kind::Ours(Box::new(stack)),
        }
    }

    /// The peer, started by this program; `None` if it can't be had, and the program has said why.
    pub(crate) fn peer(program: &Path) -> anyhow::Result<Option<Self>> {
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
            kind: Kind::Peer(peer, 0),
        }))
    }

    /// Ours, as this builder has it.
    pub(crate) fn start(name: &'static str, builder: Builder) -> anyhow::Result<Self> {
        Ok(Self::of(name, builder.start()?))
    }

    /// Looks again for its processes, of which some were started anew.
    pub(crate) fn look(&mut self) {
        if let Kind::Ours(stack) = &self.kind {
            self.parts = parts(stack);
        }
    }

    /// The process at the top of one of its parts.
    pub(crate) fn pid(&self, part: &str) -> anyhow::Result<u32> {
        let pids = self.parts.get(part).and_then(|pids| pids.first());
        pids.copied()
            .with_context(|| format!("{}: no {part}", self.name))
    }

    /// Where clients are served, as `127.0.0.1:7450`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ours as it was started.
    pub(crate) fn ours_stack(&self) -> anyhow::Result<&Stack> {
        self.stack()
            .with_context(|| format!("{} is not ours", self.name))
    }

    /// Ours as it was started, if it is that.
    #[must_use]
    pub(crate) const fn stack(&self) -> Option<&Stack> {
        match &self.kind {
            Kind::Ours(stack) => Some(stack),
            Kind::Peer(..) => None,
        }
    }

    /// A closed loop on this system.
    #[must_use]
    pub(crate) fn plan(
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
            known: 0,
            until,
        }
    }

    /// The processor time that each part has taken, in seconds.
    #[must_use]
    pub(crate) fn cpu(&self) -> BTreeMap<&'static str, f64> {
        let parts = self.parts.iter();
        parts
            .map(|(&part, pids)| (part, processes::cpu(pids)))
            .collect()
    }

    /// The memory of its own programs in bytes: without Redis and PostgreSQL.
    #[must_use]
    pub(crate) fn memory(&self) -> BTreeMap<&'static str, u64> {
        let parts = self.parts.iter().filter(|(part, _)| !STORES.contains(part));
        parts
            .map(|(&part, pids)| (part, processes::pss(pids)))
            .collect()
    }

    /// Looks what is there before a load, where that is needed to see its end. Nothing is removed:
    /// file systems are slower for a while after that.
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        if let Kind::Peer(peer, rows) = &mut self.kind {
            *rows = peer.ask("rows")?;
        }
        Ok(())
    }

    /// Waits until all images of the load are in the database; the peer has so many rows more then.
    pub(crate) fn drain(&mut self, rows: u64) -> anyhow::Result<()> {
        let until = Instant::now() + DRAIN;
        loop {
            let left = match &mut self.kind {
                Kind::Ours(_) => unsaved(&self.address)?,
                Kind::Peer(peer, before) => (*before + rows).saturating_sub(peer.ask("rows")?),
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
pub(crate) fn noop() -> Builder {
    Stack::builder()
        .tuning(Tuning::Durable)
        .set("worker.classifier", "simulated")
        .set("worker.decode", "header")
}

/// Those of its parts that run.
fn parts(stack: &Stack) -> BTreeMap<&'static str, Vec<u32>> {
    let mut parts = BTreeMap::<_, Vec<u32>>::new();
    let services = [
        ("server", stack.server()),
        ("persister", stack.persister()),
        ("redis", stack.redis().service()),
        ("postgres", stack.postgres().service()),
    ];
    let workers = stack.workers().iter().map(|worker| ("worker", worker));
    for (part, service) in services.into_iter().chain(workers) {
        if let Some(pid) = service.pid() {
            parts.entry(part).or_default().push(pid);
        }
    }
    parts
}

/// Jobs that a server of ours still has in its spool.
pub(crate) fn unsaved(address: &str) -> anyhow::Result<u64> {
    let mut stream = greeted(address)?;
    let mut request = Vec::new();
    encode(&ClientMessage::Status(Request { req: 1 }), 0, &mut request)?;
    stream.write_all(&request)?;
    match answer(&mut stream)? {
        ServerMessage::Status(status) => Ok(status.spool),
        other => bail!("no status but {other:?}"),
    }
}

/// A connection to a server of ours, on which both have said hello.
pub(crate) fn greeted(address: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&Wire::Imgsys.hello()?)?;
    match answer(&mut stream)? {
        ServerMessage::Welcome(_) => Ok(stream),
        other => bail!("no welcome but {other:?}"),
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
            .env("TMPDIR", place::path())
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
