//! Whoever sends Celery's events: who that is, and what all of his events have.

use super::{Clock, envelope, host};
use crate::{keys, link::Link};
use redis::{RedisResult, cmd};
use serde::Serialize;
use serde_json::json;
use tracing::error;

/// A sender of events.
#[derive(Debug)]
pub(crate) struct Voice {
    hostname: String,
    utc_offset: f64,
    pub(crate) clock: Clock,
}

/// An event as it is written.
#[derive(Serialize)]
struct Event<'a, Fields> {
    hostname: &'a str,
    utcoffset: f64,
    pid: u32,
    clock: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<&'a str>,
    #[serde(flatten)]
    fields: Fields,
    timestamp: f64,
    r#type: &'a str,
}

impl Voice {
    /// The voice of the program with this name.
    pub(crate) fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            utc_offset: host::utc_offset(),
            clock: Clock::default(),
        }
    }

    /// An event of this kind that happens now, perhaps to the task with this id.
    pub(crate) fn write(
        &self,
        kind: &str,
        uuid: Option<&str>,
        fields: impl Serialize,
    ) -> Option<String> {
        let event = Event {
            hostname: &self.hostname,
            utcoffset: self.utc_offset,
            pid: std::process::id(),
            clock: self.clock.forward(),
            uuid,
            fields,
            timestamp: host::now(),
            r#type: kind,
        };
        serde_json::to_string(&event)
            .inspect_err(|error| error!("writing an event: {error}"))
            .ok()
    }

    /// Publishes an event, or a list of them.
    pub(crate) async fn publish(
        &self,
        link: &Link,
        routing_key: &str,
        body: &str,
    ) -> RedisResult<()> {
        let headers = json!({"hostname": self.hostname});
        let message = envelope::seal(body, &headers, keys::CELERY_EVENTS, routing_key);
        let mut publish = cmd("PUBLISH");
        publish.arg(link.keys().celery_events(routing_key));
        link.query::<i64>(publish.arg(message)).await.map(drop)
    }
}
