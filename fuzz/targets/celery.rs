//! A message on the queue, as whoever may have put it there.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The queue's own modules, without what talks to Redis.
#[allow(dead_code, unused_imports)]
#[path = "../../crates/queue/src/canvas/mod.rs"]
mod canvas;
#[allow(dead_code)]
#[path = "../../crates/queue/src/incoming.rs"]
mod incoming;
#[allow(dead_code)]
#[path = "../../crates/queue/src/keys.rs"]
mod keys;
#[allow(dead_code)]
#[path = "../../crates/queue/src/monitor/python.rs"]
mod python;
/// Stands for the folder in which that one is.
mod monitor {
    pub(crate) use crate::python;
}
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

/// Stands for what is wrong with a connection string, which nobody has here.
#[derive(Debug)]
pub struct AddressError;

/// Stands for the connection string, of which `keys` needs this much.
#[allow(dead_code)]
mod address {
    use crate::{AddressError, keys::Keys};

    pub(crate) struct Address(Keys);

    impl Address {
        pub(crate) fn parse(_url: &str) -> Result<Self, AddressError> {
            Err(AddressError)
        }

        pub(crate) fn keys(&self) -> &Keys {
            &self.0
        }
    }
}

fuzz_target!(|raw: &[u8]| {
    match incoming::parse(raw) {
        Ok(task) => {
            assert_eq!(task.raw.as_bytes(), raw);
            let _ = task.is_early();
            let _ = task.arguments.job();
            if let Some(canvas) = &task.kin.canvas {
                let parent = task.kin.parent_of(&task.id);
                let _ = canvas.succeeded(parent, &serde_json::Value::Null);
                let _ = canvas.failed(parent, true);
            }
        }
        Err(rejected) => {
            assert!(!rejected.reason.is_empty());
            let _ = rejected.failure();
        }
    }
});
