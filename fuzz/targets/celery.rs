//! A message on the queue, as whoever may have put it there.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The queue's own modules, without what talks to Redis.
#[allow(dead_code)]
#[path = "../../crates/queue/src/incoming.rs"]
mod incoming;
#[allow(dead_code)]
#[path = "../../crates/queue/src/keys.rs"]
mod keys;
#[allow(dead_code)]
#[path = "../../crates/queue/src/task.rs"]
mod task;

/// Stands for the queue's error, of which `task` needs this much.
#[derive(Debug)]
pub enum QueueError {
    #[allow(dead_code)]
    Json(serde_json::Error),
}

impl From<serde_json::Error> for QueueError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

fuzz_target!(|raw: &[u8]| {
    match incoming::parse(raw) {
        Ok(task) => {
            assert_eq!(task.raw.as_bytes(), raw);
            let _ = task.is_early();
            let _ = task.arguments.job();
        }
        Err(rejected) => {
            assert!(!rejected.reason.is_empty());
            let _ = rejected.failure();
        }
    }
});
