//! What a server hears of its jobs: results from workers, commits from persisters.
//!
//! Pub/Sub only makes things fast. Whatever is published while nobody listens is lost, so after
//! each [`ServerEvent::Subscribed`] the server looks for what it has missed.

use crate::{
    events, keys,
    link::{Backoff, Link},
    subscription::{SILENCE, Subscription},
};
use imgsys_types::{JobId, JobRecord, JobResult, ServerId, Timestamp};
use redis::RedisError;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How many events wait for a server that is slow, before the connection is given up.
const CAPACITY: usize = 4096;

/// Something that a server hears.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// From now on everything is heard; what was published before may have been missed.
    Subscribed,
    /// A job of this server has ended.
    Result(Box<JobRecord>),
    /// These results of this server's jobs are in the database.
    Persisted(Vec<Persisted>),
    /// Nothing is heard any more, for this reason; [`ServerEvent::Subscribed`] will follow.
    Lost(String),
}

/// A run whose result is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persisted {
    /// The job.
    pub job: JobId,
    /// Which of its runs.
    pub run: u32,
    /// When it ended: if Redis has lost its memory there may have been two results of one run, and
    /// this tells which of them the database has.
    pub finished_at: Timestamp,
}

impl Persisted {
    /// This result of a job.
    #[must_use]
    pub const fn of(job: JobId, result: &JobResult) -> Self {
        Self {
            job,
            run: result.run,
            finished_at: result.finished_at,
        }
    }
}

/// Why a subscription ended.
enum End {
    /// Nobody wants to hear any more.
    Over,
    Failed(RedisError),
    /// The server did not keep up.
    Slow,
}

impl From<RedisError> for End {
    fn from(error: RedisError) -> Self {
        Self::Failed(error)
    }
}

/// Listens until `shutdown`, or until the receiver is dropped; connects again for ever. Only a URL
/// that makes no sense ends it, with [`ServerEvent::Lost`]. Needs a Tokio runtime.
#[must_use]
pub fn listen(
    url: &str,
    server: ServerId,
    shutdown: CancellationToken,
) -> mpsc::Receiver<ServerEvent> {
    let (out, receiver) = mpsc::channel(CAPACITY);
    let link = Link::new(url);
    tokio::spawn(async move {
        let listening = async {
            match link {
                Ok(link) => run(link, server, out).await,
                Err(error) => {
                    error!("can't listen: {error}");
                    // Nobody left to tell if the receiver is gone.
                    let _ = out.send(ServerEvent::Lost(error.to_string())).await;
                }
            }
        };
        shutdown.run_until_cancelled(listening).await;
    });
    receiver
}

async fn run(link: Link, server: ServerId, out: mpsc::Sender<ServerEvent>) {
    let mut backoff = Backoff::redis();
    while !out.is_closed() {
        let begun = Instant::now();
        let why = match subscription(&link, server, &out).await {
            End::Over => return,
            End::Failed(error) => {
                link.failed(&error);
                error.to_string()
            }
            End::Slow => {
                warn!("too slow to hear all that happens to its jobs; subscribing again");
                "the events were not taken in time".to_owned()
            }
        };
        // Waits for room: the next subscription is of no use before.
        if out.send(ServerEvent::Lost(why)).await.is_err() {
            return;
        }
        if begun.elapsed() > SILENCE {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

async fn subscription(link: &Link, server: ServerId, out: &mpsc::Sender<ServerEvent>) -> End {
    match subscribe_and_forward(link, server, out).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn subscribe_and_forward(
    link: &Link,
    server: ServerId,
    out: &mpsc::Sender<ServerEvent>,
) -> Result<std::convert::Infallible, End> {
    let results = link.keys().results(server);
    let channels = [results.clone(), link.keys().persisted(server)];
    let mut subscription = Subscription::new(link, &channels).await?;
    let room = |_| End::Over;
    out.send(ServerEvent::Subscribed).await.map_err(room)?;
    loop {
        let message = tokio::select! {
            message = subscription.next() => message?,
            () = out.closed() => return Err(End::Over),
        };
        let payload = message.get_payload_bytes();
        let (news, problem) = if message.get_channel_name() == results {
            let (records, problem) = events::several_from_json(payload);
            let boxed = records.into_iter().map(Box::new);
            (boxed.map(ServerEvent::Result).collect(), problem)
        } else {
            match serde_json::from_slice::<Vec<(String, i64)>>(payload) {
                Ok(runs) => (vec![ServerEvent::Persisted(persisted(&runs))], None),
                Err(error) => (Vec::new(), Some(error)),
            }
        };
        for event in news {
            match out.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(End::Slow),
                Err(TrySendError::Closed(_)) => return Err(End::Over),
            }
        }
        if let Some(error) = problem {
            warn!("on {}: {error}", message.get_channel_name());
        }
    }
}

/// The runs that these are the task ids of, with the microseconds at which they ended.
fn persisted(runs: &[(String, i64)]) -> Vec<Persisted> {
    let runs = runs.iter().filter_map(|(id, finished_at)| {
        let run = keys::run_of_task(id);
        if run.is_none() {
            warn!(id, "is no run that could be in the database");
        }
        run.map(|(job, run)| Persisted {
            job,
            run,
            finished_at: Timestamp::from_micros(*finished_at),
        })
    });
    runs.collect()
}
