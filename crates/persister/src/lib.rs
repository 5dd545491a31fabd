//! The persister: events from Redis become rows in PostgreSQL.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line of `imgsys-persister` |
//! | `persister` | the loop: read a batch, write it, settle it |
//! | `metrics` | what is counted, and whether Redis and PostgreSQL are there |
//! | `outage` | waiting for Redis or PostgreSQL, and saying so |
//! | `settings` | what a persister needs to know |
//! | `waiting` | accepted events that wait for their job's end |
//! | `thread` | a thread for what blocks, which no silent PostgreSQL keeps from its end |
//!
//! An event is settled only once its row is committed, and is claimed by another persister if this
//! one dies before; writing it twice changes nothing. So every event ends in the history, whenever
//! a persister, Redis or PostgreSQL goes down, and any number of persisters may run.

pub mod cli;
mod metrics;
mod outage;
mod persister;
mod settings;
mod thread;
mod waiting;

pub use settings::Settings;

use imgsys_history::Writer;
use imgsys_queue::events::EventStream;
use imgsys_service::Config;
use metrics::{PersisterMetrics, PersisterProbe};
use persister::Persister;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Persists until `shutdown` is cancelled; then the batch at hand is finished, unless that takes
/// longer than two seconds. Fails only if a URL makes no sense, or the schema is one that waiting
/// does not change.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = PersisterMetrics::new()?;
    let probe = PersisterProbe {
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let persister = Persister::new(settings.clone(), metrics.clone(), shutdown.clone())?;
    imgsys_service::http::start(&settings.http_listen, metrics.all(), probe).await?;
    // Both of its crates block.
    let ended = thread::run(&shutdown, || persister.run()).await?;
    ended.unwrap_or_else(|| {
        warn!("ends without waiting any longer: what is not written stays in Redis");
        Ok(())
    })
}

/// What is wrong with the configuration beyond its form.
fn check(config: &Config) -> anyhow::Result<()> {
    let settings = Settings::of(config)?;
    EventStream::new(&settings.redis_url, "check")?;
    Writer::check(&settings.database_url)?;
    Ok(())
}
