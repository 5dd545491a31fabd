//! Waiting for messages on four lists without asking again and again.
//!
//! BLMOVE waits on one list, so each of the queue's lists has a connection of its own that waits.
//! It moves a message to a list of claims of this worker, from which it is popped like any other:
//! whoever dies meanwhile, the message is somewhere. A message that is claimed while the worker is
//! full goes back at once.

use super::Shared;
use crate::{
    keys::{Keys, PRIORITY_STEPS, QUEUE},
    link::Backoff,
    scripts,
};
use redis::{RedisResult, aio::MultiplexedConnection, cmd};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet};
use tracing::debug;

/// How long Redis lets a connection wait: a sign of life on each, and no more.
const BLOCK: Duration = Duration::from_secs(20);

/// The id of a connection that Redis would not tell. Killing it fails.
const UNKNOWN: i64 = -1;

/// A list, and where this worker puts what it claims from it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) list: String,
    pub(super) claim: String,
}

/// The queue's lists and this worker's claims, the most urgent first.
pub(super) fn sources(keys: &Keys, worker: &str) -> [Source; 4] {
    PRIORITY_STEPS.map(|step| Source {
        claim: keys.claim(QUEUE, step, worker),
        list: keys.priority_list(QUEUE, step),
    })
}

/// The connections that wait.
pub(super) struct Waiters {
    shared: Arc<Shared>,
    each: Vec<Arc<Waiter>>,
    tasks: JoinSet<()>,
    claimed: Arc<Notify>,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct Waiter {
    source: Source,
    /// Not waiting, so it may be asked to.
    idle: AtomicBool,
    asked: Notify,
    /// Redis's id of its connection; 0 if there has been none, or [`UNKNOWN`].
    connection: AtomicI64,
}

impl Waiters {
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let claimed = Arc::new(Notify::new());
        let messages = Arc::default();
        let mut tasks = JoinSet::new();
        let waiters = sources(shared.keys(), &shared.options.name).map(|source| {
            let waiter = Arc::new(Waiter {
                source,
                idle: AtomicBool::new(false),
                asked: Notify::new(),
                connection: AtomicI64::new(0),
            });
            let run = Arc::clone(&waiter).run(
                Arc::clone(shared),
                Arc::clone(&claimed),
                Arc::clone(&messages),
            );
            tasks.spawn(run);
            waiter
        });
        Self {
            shared: Arc::clone(shared),
            each: waiters.into(),
            tasks,
            claimed,
            messages,
        }
    }

    /// Lets all wait that don't. [`Waiters::claimed`] tells when there may be something.
    pub(super) fn wait(&self) {
        for waiter in &self.each {
            if waiter.idle.swap(false, Ordering::AcqRel) {
                waiter.asked.notify_one();
            }
        }
    }

    /// Returns when a message may have been claimed since the last time.
    pub(super) async fn claimed(&self) {
        self.claimed.notified().await;
    }

    /// What has been claimed since the last time, or some of it: to be popped yet.
    pub(super) fn messages(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.messages))
    }

    /// Puts back what has been claimed.
    pub(super) async fn unclaim(&self) -> RedisResult<()> {
        lock(&self.messages).clear();
        let moved = unclaim(&self.shared, &self.shared.options.name).await?;
        if moved > 0 {
            debug!("gave back {moved} messages that were claimed while the worker was full");
        }
        Ok(())
    }

    /// Ends all waiting and puts back what has been claimed.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
        let link = &self.shared.link;
        let mut kill = redis::pipe();
        kill.ignore_errors();
        for waiter in &self.each {
            let id = waiter.connection.load(Ordering::Acquire);
            if id != 0 {
                kill.cmd("CLIENT").arg("KILL").arg("ID").arg(id);
            }
        }
        // Redis may not have noticed that the connections are closed.
        let killed = kill.is_empty()
            || link
                .pipeline::<Vec<RedisResult<i64>>>(&kill)
                .await
                .is_ok_and(|replies| replies.iter().all(Result::is_ok));
        let returned = self.unclaim().await.is_ok();
        let name = &self.shared.options.name;
        let claims = link.keys().claims();
        let forget = if killed && returned {
            cmd("ZREM").arg(&claims).arg(name).to_owned()
        } else {
            // Another worker looks after it.
            cmd("ZADD").arg(&claims).arg(0).arg(name).to_owned()
        };
        if let Err(error) = link.query::<i64>(&forget).await {
            debug!("claims of {name} are left to other workers: {error}");
        }
    }
}

fn lock(messages: &Mutex<Vec<Vec<u8>>>) -> MutexGuard<'_, Vec<Vec<u8>>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts back what a worker has claimed; says how many messages that were.
pub(super) async fn unclaim(shared: &Shared, worker: &str) -> RedisResult<usize> {
    let mut call = scripts::UNCLAIM.prepare_invoke();
    for source in sources(shared.keys(), worker) {
        call.key(source.claim).key(source.list);
    }
    shared.link.script(&call).await
}

impl Waiter {
    async fn run(
        self: Arc<Self>,
        shared: Arc<Shared>,
        claimed: Arc<Notify>,
        messages: Arc<Mutex<Vec<Vec<u8>>>>,
    ) {
        let mut connection = None;
        let mut backoff = Backoff::redis();
        loop {
            self.idle.store(true, Ordering::Release);
            self.asked.notified().await;
            loop {
                match self.claim(&shared, &mut connection).await {
                    Ok(Some(message)) => {
                        backoff.reset();
                        lock(&messages).push(message);
                        break;
                    }
                    Ok(None) => {}
                    // The answer may be lost, but not the message: it is worth a look.
                    Err(error) => {
                        shared.link.failed(&error);
                        connection = None;
                        backoff.wait().await;
                        break;
                    }
                }
            }
            claimed.notify_one();
        }
    }

    /// Waits for a message and claims it; `None` if none came.
    async fn claim(
        &self,
        shared: &Shared,
        connection: &mut Option<MultiplexedConnection>,
    ) -> RedisResult<Option<Vec<u8>>> {
        let connection = if let Some(connection) = connection {
            connection
        } else {
            let mut fresh = shared.link.blocking(BLOCK).await?;
            let id = cmd("CLIENT").arg("ID").query_async(&mut fresh).await;
            self.connection
                .store(id.unwrap_or(UNKNOWN), Ordering::Release);
            // Nobody would look for the claims of a worker that was never seen.
            let mut touch = scripts::TOUCH.key(shared.keys().claims());
            touch.arg(&shared.options.name);
            shared.link.script::<()>(&touch).await?;
            connection.insert(fresh)
        };
        cmd("BLMOVE")
            .arg(&self.source.list)
            .arg(&self.source.claim)
            .arg("RIGHT")
            .arg("LEFT")
            .arg(BLOCK.as_secs())
            .query_async(connection)
            .await
    }
}
