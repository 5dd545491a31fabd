//! Celery's event that a task was sent, as Python's producers send it if they are told to.

use super::{events, voice::Voice};
use crate::{Task, error::is_forbidden, keys, link::Link};
use serde::Serialize;
use tracing::warn;

#[derive(Serialize)]
struct Sent<'a> {
    name: &'static str,
    args: &'static str,
    kwargs: String,
    root_id: &'a str,
    parent_id: (),
    retries: u32,
    eta: (),
    expires: (),
    queue: &'static str,
    exchange: &'static str,
    routing_key: &'static str,
}

/// Tells that these tasks were sent. If Redis is away by now, nobody hears of it.
pub(crate) async fn tell(voice: &Voice, link: &Link, tasks: &[&Task]) {
    for batch in tasks.chunks(events::BATCH) {
        let events = batch.iter().filter_map(|task| {
            let id = task.id();
            let sent = Sent {
                name: keys::TASK,
                args: "()",
                kwargs: task.kwargs_repr(),
                root_id: &id,
                parent_id: (),
                retries: 0,
                eta: (),
                expires: (),
                queue: keys::QUEUE,
                exchange: "",
                routing_key: keys::QUEUE,
            };
            voice.write("task-sent", Some(&id), sent)
        });
        let events: Vec<String> = events.collect();
        let body = format!("[{}]", events.join(","));
        if let Err(error) = voice.publish(link, "task.multi", &body).await
            && is_forbidden(&error)
        {
            warn!(
                "celery.sent_events: our user of Redis may not publish them; docs/queue.md has the \
                 ACL rules"
            );
        }
    }
}
