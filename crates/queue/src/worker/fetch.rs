//! Popping messages, as many as the worker may hold, and handing them to the worker loop.

use super::{
    FLUSH, Shared,
    broker::{Hold, LeasedDelivery},
    describe,
    facts::{self, Known, MAX_TAKEOVERS},
    finish::Finish,
    wait::{Waiters, sources},
};
use crate::{
    incoming::{self, Incoming},
    keys,
    link::Backoff,
    scripts,
};
use redis::{RedisResult, cmd};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tracing::{debug, warn};

/// The most messages popped at once.
const MAX_POP: usize = 256;

/// Pops messages until the worker stops.
pub(super) async fn fetch(shared: Arc<Shared>, out: mpsc::UnboundedSender<LeasedDelivery>) {
    let fetcher = Fetcher {
        waiters: Waiters::start(&shared),
        lists: sources(shared.keys(), &shared.options.name)
            .into_iter()
            .flat_map(|source| [source.claim, source.list])
            .collect(),
        shared,
        out,
    };
    fetcher.run().await;
    if timeout(FLUSH, fetcher.waiters.stop()).await.is_err() {
        debug!("what was claimed is left to other workers");
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    waiters: Waiters,
    /// Where messages are popped from: each claim list, then the list it is for.
    lists: Vec<String>,
    out: mpsc::UnboundedSender<LeasedDelivery>,
}

/// A message that has been popped and can be run.
struct Popped {
    lease: String,
    task: Arc<Incoming>,
    permit: OwnedSemaphorePermit,
}

impl Fetcher {
    async fn run(&self) {
        let stop = &self.shared.stop;
        let mut backoff = Backoff::redis();
        while let Some(permits) = self.permits().await {
            let wanted = permits.len();
            match self.pop(wanted).await {
                Ok((popped, known)) => {
                    backoff.reset();
                    let all = popped.len() == wanted;
                    self.take_in(popped, permits, known).await;
                    if all {
                        continue;
                    }
                    // The lists are empty, and there is room.
                    self.waiters.wait();
                    tokio::select! {
                        () = self.waiters.claimed() => {}
                        () = stop.cancelled() => return,
                    }
                }
                Err(_noted) => tokio::select! {
                    () = backoff.wait() => {}
                    () = stop.cancelled() => return,
                },
            }
        }
    }

    /// Permits to hold messages, at least one; `None` when the worker stops.
    async fn permits(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let control = &self.shared.control;
        let semaphore = &self.shared.permits;
        let first = loop {
            if !*control.consuming.borrow() && !self.pause().await {
                return None;
            }
            let first = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return None,
                permit = Arc::clone(semaphore).acquire_owned() => permit.ok()?,
                () = self.waiters.claimed() => {
                    self.unclaim().await;
                    continue;
                }
            };
            if *control.consuming.borrow() {
                break first;
            }
        };
        // Only now it is known how long those took that had to end first.
        self.shared.adapt_prefetch();
        let most = self.shared.prefetch.now().min(MAX_POP);
        let mut permits = vec![first];
        while permits.len() < most
            && let Ok(permit) = Arc::clone(semaphore).try_acquire_owned()
        {
            permits.push(permit);
        }
        Some(permits)
    }

    /// Takes no tasks until it may again; `false` if the worker stops.
    async fn pause(&self) -> bool {
        let mut consuming = self.shared.control.consuming.subscribe();
        let again = async { consuming.wait_for(|consuming| *consuming).await.is_ok() };
        tokio::pin!(again);
        self.unclaim().await;
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return false,
                () = self.waiters.claimed() => self.unclaim().await,
                again = &mut again => return again,
            }
        }
    }

    /// The worker is full, or takes no tasks: what it has claimed is for others.
    async fn unclaim(&self) {
        let mut backoff = Backoff::redis();
        while let Err(_noted) = self.waiters.unclaim().await {
            tokio::select! {
                () = backoff.wait() => {}
                () = self.shared.stop.cancelled() => return,
            }
        }
    }

    /// Pops and leases messages, each with its lease. What is said of the jobs whose messages were
    /// claimed, which are the first to be popped, is asked in the same breath.
    async fn pop(&self, wanted: usize) -> RedisResult<(Vec<(String, Vec<u8>)>, Known)> {
        let claimed = self.waiters.messages();
        let known = facts::known(&self.shared, &claimed);
        let (popped, known) = tokio::join!(self.pop_messages(wanted), known);
        Ok((popped?, known))
    }

    async fn pop_messages(&self, wanted: usize) -> RedisResult<Vec<(String, Vec<u8>)>> {
        let tags: Vec<String> = (0..wanted).map(|_| self.tag()).collect();
        let keys = self.shared.keys();
        let mut call = scripts::POP.key(keys.unacked());
        call.key(keys.unacked_index()).key(&self.lists);
        // The rest of `[message, exchange, routing key]`.
        call.arg(format!(",\"\",\"{}\"]", keys::QUEUE)).arg(&tags);
        let messages: Vec<Vec<u8>> = self.shared.link.script(&call).await?;
        Ok(tags.into_iter().zip(messages).collect())
    }

    /// A delivery tag that nobody has used.
    fn tag(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!(
            "{}.{}.{count}",
            self.shared.options.name,
            std::process::id()
        )
    }

    async fn take_in(
        &self,
        popped: Vec<(String, Vec<u8>)>,
        permits: Vec<OwnedSemaphorePermit>,
        known: Known,
    ) {
        let name = &self.shared.options.name;
        let mut tasks = Vec::with_capacity(popped.len());
        for ((lease, raw), permit) in popped.into_iter().zip(permits) {
            match incoming::parse(&raw) {
                Err(rejected) => self
                    .shared
                    .end(Finish::rejected(&lease, &raw, *rejected, name)),
                Ok(mut task) => {
                    // One that is not kept is not made.
                    task.kin.ignore_result |= self.shared.options.result_expires.is_zero();
                    let task = Arc::new(task);
                    if self.shared.leases.hold(&lease, &task) {
                        tasks.push(Popped {
                            lease,
                            task,
                            permit,
                        });
                    } else {
                        let job = task.arguments.job;
                        debug!(%job, "another copy of a task came while one is here");
                    }
                }
            }
        }
        if tasks.is_empty() {
            return;
        }
        let looked_at = tasks.iter().map(|popped| &*popped.task);
        let facts = facts::look_up(&self.shared, &looked_at.collect::<Vec<_>>(), &known).await;
        let mut suspects = Vec::new();
        let mut together: Option<(Vec<String>, Arc<Incoming>)> = None;
        for (popped, facts) in tasks.into_iter().zip(facts) {
            if facts.ended {
                self.drop_ended(popped);
            } else if self.shared.control.revoked.contains(&popped.task.id) {
                self.end_revoked(popped);
            } else if facts.takeovers >= MAX_TAKEOVERS && !popped.task.is_early() {
                suspects.push((popped, facts.takeovers));
            } else if popped.task.eta.is_some() {
                self.hand_over(popped, facts.takeovers, false);
            } else {
                let (lease, task) = self.release(popped, facts.takeovers, false);
                together.get_or_insert((Vec::new(), task)).0.push(lease);
            }
        }
        if let Some((leases, task)) = together {
            self.deliver(leases, task);
        }
        for (suspect, takeovers) in suspects {
            self.run_alone(suspect, takeovers).await;
        }
    }

    /// Another copy has ended the job, or its client has cancelled it.
    fn drop_ended(
        &self,
        Popped {
            lease,
            task,
            permit,
        }: Popped,
    ) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Some(released) = shared.leases.end(&lease) {
                let finish = Finish::acknowledge(task.id.clone(), released.tags);
                shared.settle(&lease, finish).await;
            }
            drop(permit);
        });
    }

    /// It has been revoked before it came here.
    fn end_revoked(&self, Popped { lease, permit, .. }: Popped) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            shared.end_revoked(&lease).await;
            drop(permit);
        });
    }

    fn hand_over(&self, popped: Popped, takeovers: u32, alone: bool) {
        let (lease, task) = self.release(popped, takeovers, alone);
        self.deliver(vec![lease], task);
    }

    fn deliver(&self, leases: Vec<String>, task: Arc<Incoming>) {
        // If the loop is gone then the worker stops, and gives back what it holds.
        let _ = self
            .out
            .send(LeasedDelivery::new(&self.shared, leases, task));
    }

    /// From here on the task may run.
    fn release(&self, popped: Popped, takeovers: u32, alone: bool) -> (String, Arc<Incoming>) {
        let Popped {
            lease,
            task,
            permit,
        } = popped;
        let attempt = task.retries.saturating_add(takeovers).saturating_add(1);
        if self.shared.events.tasks() {
            describe::received(&task, |event| self.shared.events.task(&task.id, event));
        }
        let hold = Hold::new(&self.shared, &task, permit);
        self.shared.leases.hand_over(&lease, attempt, alone, hold);
        (lease, task)
    }

    /// Workers have died with this task. It gets a last chance with nothing else beside it, so
    /// that it takes nothing with it, and nothing else can have been to blame.
    async fn run_alone(&self, suspect: Popped, takeovers: u32) {
        let id = suspect.task.id.clone();
        let job = suspect.task.arguments.job;
        warn!(%job, "a task runs alone: {takeovers} workers have died with it");
        let waiting = self.shared.leases.take_waiting();
        self.shared
            .give_back(waiting, self.shared.stop.cancelled())
            .await;
        if !self.quiet().await || !self.mark_alone(&id).await {
            return;
        }
        self.hand_over(suspect, takeovers, true);
        self.quiet().await;
    }

    /// Waits until nothing is held but what is aside; `false` if the worker stops.
    async fn quiet(&self) -> bool {
        let mut busy = self.shared.leases.busy();
        let quiet = async { busy.wait_for(|busy| *busy == 0).await.is_ok() };
        tokio::pin!(quiet);
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return false,
                () = self.waiters.claimed() => self.unclaim().await,
                quiet = &mut quiet => return quiet,
            }
        }
    }

    /// Notes in Redis that the task runs alone; `false` if the worker stops.
    async fn mark_alone(&self, id: &str) -> bool {
        let mut mark = cmd("HSET");
        mark.arg(self.shared.keys().takeovers())
            .arg(id)
            .arg(keys::ALONE);
        let mut backoff = Backoff::redis();
        while let Err(_noted) = self.shared.link.query::<i64>(&mark).await {
            tokio::select! {
                () = backoff.wait() => {}
                () = self.shared.stop.cancelled() => return false,
            }
        }
        true
    }
}
