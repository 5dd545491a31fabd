//! The way to Redis: a connection that comes back by itself, and never makes anybody wait for ever.
//!
//! A [`Link`] can be made while Redis is away. Each call either gets its answer or an error within
//! [`PATIENCE`]; the next call tries again. What a caller does meanwhile is its own business, with
//! a [`Backoff`]. An outage is logged when it begins and when it ends, not at each attempt.

use crate::{
    QueueError,
    address::{Address, AddressError},
    error::Advice,
    keys::Keys,
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, Pipeline,
    RedisError, RedisResult, ScriptInvocation, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub},
};
use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tracing::{info, warn};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a call may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often the log may be told of outages, at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A connection to Redis that is made when it is needed, and again when it breaks. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    keys: Keys,
    state: Mutex<State>,
}

struct State {
    manager: ConnectionManager,
    /// Counts the managers, so that one that has failed is replaced once, not by each of its users.
    generation: u64,
    down_since: Option<Instant>,
    told: Option<Instant>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// A link to the Redis at this URL; does not connect yet. Needs a Tokio runtime.
    pub(crate) fn new(url: &str) -> Result<Self, QueueError> {
        let address = Address::parse(url)?;
        let client = address.client()?;
        let manager = manager(&client).map_err(AddressError::from)?;
        let keys = address.keys().clone();
        let state = Mutex::new(State {
            manager,
            generation: 0,
            down_since: None,
            told: None,
        });
        Ok(Self(Arc::new(Inner {
            client,
            keys,
            state,
        })))
    }

    /// What things are called in this Redis.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Where Redis is, and as whom we come. Holds the password.
    pub(crate) fn place(&self) -> &ConnectionInfo {
        self.0.client.get_connection_info()
    }

    /// Sends a command and gives its answer.
    pub(crate) async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        self.call(|mut connection| async move { cmd.query_async(&mut connection).await })
            .await
    }

    /// Sends the commands at once and gives their answers.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        self.call(|mut connection| async move { pipeline.query_async(&mut connection).await })
            .await
    }

    /// Runs a script, which is loaded if Redis does not have it, and gives its answer.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        self.call(|mut connection| async move { call.invoke_async(&mut connection).await })
            .await
    }

    async fn call<T, Answer>(&self, ask: impl Fn(ConnectionManager) -> Answer) -> RedisResult<T>
    where
        Answer: Future<Output = RedisResult<T>>,
    {
        let (connection, generation) = {
            let state = self.state();
            (state.manager.clone(), state.generation)
        };
        let answer = timeout(PATIENCE, async {
            match ask(connection.clone()).await {
                // The manager tells how its last attempt to connect ended, and makes another.
                Err(error) if error.is_connection_refusal() => ask(connection).await,
                answer => answer,
            }
        })
        .await
        .unwrap_or_else(|_| Err(timed_out()));
        match &answer {
            Ok(_) => self.answered(),
            Err(error) => {
                self.failed(error);
                // A connection that does not answer may be half dead, one that became read-only
                // may lead to yesterday's primary; the manager itself would keep both.
                if error.is_timeout() || error.kind() == ServerErrorKind::ReadOnly.into() {
                    self.renew(generation);
                }
            }
        }
        answer
    }

    /// A connection of its own for a command that blocks up to this long.
    pub(crate) async fn blocking(&self, block: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(block + ANSWER));
        let connecting = self
            .0
            .client
            .get_multiplexed_async_connection_with_config(&config);
        self.connected(connecting).await
    }

    /// A connection of its own for Pub/Sub.
    pub(crate) async fn pubsub(&self) -> RedisResult<PubSub> {
        self.connected(self.0.client.get_async_pubsub()).await
    }

    async fn connected<T>(
        &self,
        connecting: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        timeout(PATIENCE, connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
            .inspect_err(|error| self.failed(error))
    }

    /// Notes an error, and logs it if it begins an outage.
    pub(crate) fn failed(&self, error: &RedisError) {
        let mut state = self.state();
        let now = Instant::now();
        if state.down_since.is_none() {
            state.down_since = Some(now);
            if state.told.is_none_or(|told| now - told >= LOG_EVERY) {
                state.told = Some(now);
                warn!(
                    "Redis does not answer as it should, trying again: {error}{}",
                    Advice(error)
                );
            }
        }
    }

    pub(crate) fn answered(&self) {
        let mut state = self.state();
        if let Some(since) = state.down_since.take() {
            // Only if its beginning was told.
            if state.told.is_some_and(|told| told >= since) {
                info!("Redis answers again after {:.1?}", since.elapsed());
            }
        }
    }

    fn renew(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation
            && let Ok(manager) = manager(&self.0.client)
        {
            state.manager = manager;
            state.generation += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(ANSWER))
        // Callers come again by themselves, and should learn soon that Redis is away.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

pub(crate) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Whether Redis does not have the script.
pub(crate) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Growing pauses with jitter between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    step: u32,
}

impl Backoff {
    /// Pauses that double from `first` up to `cap`.
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            step: 0,
        }
    }

    /// The pauses between attempts to reach Redis: so short that results flow again within a second
    /// of its return, though several connections have to come back before they do.
    pub(crate) const fn redis() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(400))
    }

    /// The pauses as they are after so many attempts.
    pub(crate) const fn after(mut self, attempts: u32) -> Self {
        self.step = attempts;
        self
    }

    /// The next pause: at least half of what it may be, the rest by chance, so that those who
    /// failed together don't come again together.
    pub(crate) fn next(&mut self) -> Duration {
        let factor = 2u32.saturating_pow(self.step.min(31));
        let most = self.first.saturating_mul(factor).min(self.cap);
        self.step = self.step.saturating_add(1);
        let [.., high, low] = uuid::Uuid::new_v4().into_bytes();
        let chance = u16::from_be_bytes([high, low]);
        most.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u16::MAX))
    }

    /// Begins anew.
    pub(crate) const fn reset(&mut self) {
        self.step = 0;
    }

    /// Waits for the next pause.
    pub(crate) async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_differ() {
        let cap = Duration::from_secs(300);
        let mut backoff = Backoff::new(Duration::from_secs(1), cap);
        let first = backoff.next();
        assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
        let mut backoff = backoff.after(u32::MAX);
        let pauses: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(pauses.iter().all(|&pause| pause >= cap / 2 && pause <= cap));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }
}
