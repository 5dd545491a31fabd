//! Clients that never give up: they connect again, watch what was accepted and submit the rest once
//! more, as docs/protocol.md tells clients to.

use crate::{
    chance::Chance,
    client::{Connection, submit, unexpected},
    images::{Sample, sample},
    ledger::{End, Ledger},
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Rejected, Request, Watch},
};
use imgsys_types::JobId;
use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// A connection that says nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(2);
/// One in so many images has been sent before, as another job and perhaps by another owner.
const DUPLICATES: u64 = 5;
/// One in so many jobs is submitted twice, the second time as if the first had been lost.
const TWICE: u64 = 20;
/// One in so many is announced first, and its bytes are sent if they are asked for.
const ANNOUNCED: u64 = 4;

/// Somebody who sends images.
#[derive(Debug, Clone)]
pub struct Person {
    /// Whose the images are.
    pub owner: String,
    /// The secret.
    pub token: Option<String>,
}

/// What clients do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Servers, among which the clients are shared out.
    pub addresses: Vec<String>,
    /// Clients, one for each of these.
    pub people: Vec<Person>,
    /// Submits without an answer, and jobs without a result, of a client.
    pub in_flight: usize,
    /// Between two submits of a client.
    pub pace: Duration,
    /// What repeats it.
    pub seed: u64,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    clients: JoinSet<()>,
    stop: CancellationToken,
    numbers: Arc<AtomicU64>,
    ledger: Arc<Ledger>,
}

impl Load {
    /// Watches these jobs, which were accepted, in the name of the plan's first person.
    pub fn watching(plan: &Plan, samples: &[Sample], ledger: &Arc<Ledger>) -> io::Result<Self> {
        Self::given(plan, samples, (End::Done, true), ledger)
    }

    /// Starts the clients.
    pub fn start(plan: &Plan, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut load = Self {
            runtime,
            clients: JoinSet::new(),
            stop: CancellationToken::new(),
            numbers: Arc::new(AtomicU64::new(1)),
            ledger: Arc::clone(ledger),
        };
        for (index, person) in plan.people.iter().enumerate() {
            let client = load.client(plan, person, index);
            load.clients.spawn_on(client.run(), load.runtime.handle());
        }
        Ok(load)
    }

    /// Sends these images only, all by the plan's first person.
    pub fn of(plan: &Plan, samples: &[Sample], end: End, ledger: &Arc<Ledger>) -> io::Result<Self> {
        Self::given(plan, samples, (end, false), ledger)
    }

    fn given(
        plan: &Plan,
        samples: &[Sample],
        (end, accepted): (End, bool),
        ledger: &Arc<Ledger>,
    ) -> io::Result<Self> {
        let mut plan = plan.clone();
        plan.people.truncate(1);
        // It may be sent while others send as fast as they may.
        plan.pace = Duration::from_millis(1);
        let mut load = Self::start(
            &Plan {
                people: Vec::new(),
                ..plan.clone()
            },
            ledger,
        )?;
        load.stop.cancel();
        for person in &plan.people {
            let mut client = load.client(&plan, person, 0);
            for sample in samples {
                ledger.sends(sample, &person.owner, end);
                let waiting = Waiting {
                    sample: sample.clone(),
                    accepted,
                };
                client.waiting.insert(sample.job, waiting);
            }
            load.clients.spawn_on(client.run(), load.runtime.handle());
        }
        Ok(load)
    }

    fn client(&self, plan: &Plan, person: &Person, index: usize) -> Client {
        Client {
            plan: plan.clone(),
            person: person.clone(),
            server: index,
            ledger: Arc::clone(&self.ledger),
            stop: self.stop.clone(),
            numbers: Arc::clone(&self.numbers),
            chance: Chance::new(plan.seed.wrapping_mul(1000) + index as u64),
            waiting: HashMap::new(),
            again: VecDeque::new(),
            not_before: Instant::now(),
        }
    }

    /// Sends nothing new, and waits until every job has its answer. The clients that are given up
    /// because they wait for longer than that: hung ones.
    #[must_use]
    pub fn finish(mut self, within: Duration) -> usize {
        self.stop.cancel();
        let all = async {
            while let Some(client) = self.clients.join_next().await {
                if let Err(problem) = client {
                    self.ledger.complain(format!("a client ended: {problem}"));
                }
            }
        };
        let done = self.runtime.block_on(async { timeout(within, all).await });
        let hung = if done.is_ok() { 0 } else { self.clients.len() };
        self.clients.abort_all();
        self.runtime.shutdown_background();
        hung
    }
}

/// A job that has no answer yet.
#[derive(Debug)]
struct Waiting {
    sample: Sample,
    accepted: bool,
}

struct Client {
    plan: Plan,
    person: Person,
    server: usize,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    numbers: Arc<AtomicU64>,
    chance: Chance,
    waiting: HashMap<JobId, Waiting>,
    /// To be submitted once more.
    again: VecDeque<JobId>,
    not_before: Instant,
}

impl Client {
    async fn run(mut self) {
        while !(self.stop.is_cancelled() && self.waiting.is_empty()) {
            if let Err(_lost) = self.connection().await {
                self.ledger.cut();
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn address(&self) -> String {
        let addresses = &self.plan.addresses;
        addresses[self.server % addresses.len()].clone()
    }

    /// Goes as far as one connection carries.
    async fn connection(&mut self) -> io::Result<()> {
        let mut connection =
            Connection::open(&self.address(), self.person.token.as_deref()).await?;
        self.resume(&mut connection).await?;
        let mut pace = interval(self.plan.pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut asked) = (tokio::time::Instant::now(), false);
        loop {
            if self.stop.is_cancelled() && self.waiting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                message = connection.next() => {
                    (heard, asked) = (tokio::time::Instant::now(), false);
                    self.hear(&mut connection, message?).await?;
                }
                _ = pace.tick() => self.speak(&mut connection).await?,
                () = sleep_until(heard + SILENCE) => {
                    if asked {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    let ping = ClientMessage::Ping(Request { req: 0 });
                    connection.send(&ping, &[]).await?;
                    (heard, asked) = (tokio::time::Instant::now(), true);
                }
            }
        }
    }

    /// What was accepted is watched, the rest submitted anew.
    async fn resume(&mut self, connection: &mut Connection) -> io::Result<()> {
        let watched: Vec<JobId> = self.those(|waiting| waiting.accepted);
        self.again = self.those(|waiting| !waiting.accepted).into();
        if watched.is_empty() {
            return Ok(());
        }
        let watch = ClientMessage::Watch(Watch {
            req: 0,
            jobs: watched,
        });
        connection.send(&watch, &[]).await
    }

    fn those(&self, which: impl Fn(&Waiting) -> bool) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| which(waiting))
            .map(|(job, _)| *job)
            .collect();
        jobs.sort_unstable();
        jobs
    }

    /// Sends what is due.
    async fn speak(&mut self, connection: &mut Connection) -> io::Result<()> {
        if Instant::now() < self.not_before {
            return Ok(());
        }
        if let Some(job) = self.again.pop_front() {
            return match self.waiting.get(&job) {
                Some(waiting) if !waiting.accepted => {
                    let sample = &waiting.sample;
                    connection
                        .send(&submit(1, sample, true), &sample.bytes)
                        .await
                }
                _ => Ok(()),
            };
        }
        if self.stop.is_cancelled() || self.waiting.len() >= self.plan.in_flight {
            return Ok(());
        }
        let next = self.numbers.fetch_add(1, Ordering::Relaxed);
        let number = if self.chance.one_in(DUPLICATES) {
            self.chance.below(next)
        } else {
            next
        };
        // The size follows from the number: the same number is the same image.
        let side = 16 + u32::try_from(number % 5).unwrap_or(0) * 20;
        let sample = sample(self.plan.seed << 32 | number, side);
        self.ledger.sends(&sample, &self.person.owner, End::Done);
        let body: &[u8] = if self.chance.one_in(ANNOUNCED) {
            &[]
        } else {
            &sample.bytes
        };
        let (message, twice) = (submit(1, &sample, true), self.chance.one_in(TWICE));
        let waiting = Waiting {
            sample: sample.clone(),
            accepted: false,
        };
        self.waiting.insert(sample.job, waiting);
        connection.send(&message, body).await?;
        if twice {
            connection.send(&message, &sample.bytes).await?;
        }
        Ok(())
    }

    async fn hear(
        &mut self,
        connection: &mut Connection,
        message: ServerMessage,
    ) -> io::Result<()> {
        match message {
            ServerMessage::Accepted(accepted) => {
                self.ledger.accepted(accepted.job);
                if let Some(waiting) = self.waiting.get_mut(&accepted.job) {
                    waiting.accepted = true;
                }
            }
            ServerMessage::Result(end) => {
                self.ledger.told(end.job, end.result);
                self.waiting.remove(&end.job);
            }
            ServerMessage::SendBody(ask) => {
                if let Some(waiting) = self.waiting.get(&ask.job) {
                    let sample = &waiting.sample;
                    let message = submit(1, sample, true);
                    connection.send(&message, &sample.bytes).await?;
                }
            }
            ServerMessage::Watching(watching) => {
                for job in watching.unknown {
                    self.ledger
                        .complain(format!("{job} was accepted, and is not known any more"));
                }
            }
            ServerMessage::Pong(_) => {}
            ServerMessage::Rejected(refusal) => return self.refused(&refusal),
            ServerMessage::Goodbye(goodbye) if goodbye.code.is_transient() => {
                return Err(io::Error::other(goodbye.text));
            }
            other => {
                self.ledger.complain(format!("a client heard {other:?}"));
                return Err(unexpected(&other));
            }
        }
        Ok(())
    }

    fn refused(&mut self, refusal: &Rejected) -> io::Result<()> {
        if !refusal.code.is_transient() {
            self.ledger.complain(format!("refused: {refusal:?}"));
        }
        match refusal.job {
            Some(job) => {
                // Not faster than asked for, and not slower than the tests have time for.
                let pause = refusal.retry_after_ms.unwrap_or(100).min(500);
                self.not_before = Instant::now() + Duration::from_millis(pause);
                self.again.push_back(job);
                Ok(())
            }
            // The watch: try it on another connection.
            None => Err(io::Error::other(refusal.text.clone())),
        }
    }
}
