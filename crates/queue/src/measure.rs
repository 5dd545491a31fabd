//! What is done about a task without Redis, for benchmarks: they see only what is public.

use crate::{QueueError, Task, incoming, incoming::Incoming, worker};
use imgsys_types::JobResult;
use std::sync::Arc;

/// A task as a worker has read it.
#[derive(Debug, Clone)]
pub struct Taken(pub(crate) Arc<Incoming>);

/// The message of a task, as a server makes it.
pub fn message(task: &Task) -> Result<String, QueueError> {
    task.message()
}

/// Reads a message as a worker does; `None` if it would be set aside.
#[must_use]
pub fn take(message: &str) -> Option<Taken> {
    let task = incoming::parse(message.as_bytes()).ok()?;
    Some(Taken(Arc::new(task)))
}

/// What a worker sends to Redis when a task has ended, in bytes.
#[must_use]
pub fn end(taken: &Taken, tag: &str, result: JobResult) -> Vec<u8> {
    worker::end_command(Arc::clone(&taken.0), tag, result)
}
