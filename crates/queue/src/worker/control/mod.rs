//! Remote control: what a worker answers to Celery's commands, in the forms in which Python does.
//!
//! | module | holds |
//! |---|---|
//! | `inspect` | questions |
//! | `steer` | commands |
//! | `revoked`, `rate` | what commands leave behind |

mod inspect;
mod rate;
mod revoked;
mod steer;

use super::Shared;
use crate::monitor::mailbox::Command;
use rate::Rate;
use revoked::RevokedIds;
use serde_json::{Map, Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
pub(super) use steer::{REVOKED, revoked};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What commands have changed about a worker.
#[derive(Debug)]
pub(super) struct Control {
    /// Tasks that are not to be run.
    pub(super) revoked: RevokedIds,
    /// How many tasks may begin in which time.
    pub(super) rate: Rate,
    time_limit: Mutex<Option<Duration>>,
    /// Whether tasks are taken from the queue.
    pub(super) consuming: watch::Sender<bool>,
    /// The worker is to shut down.
    pub(super) shutdown: CancellationToken,
}

impl Control {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self {
            revoked: RevokedIds::default(),
            rate: Rate::default(),
            time_limit: Mutex::default(),
            consuming: watch::channel(true).0,
            shutdown,
        }
    }

    /// How long tasks may run, if that has been said.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        *self
            .time_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_time_limit(&self, limit: Option<Duration>) {
        *self
            .time_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = limit;
    }
}

/// A reply: what is to be told, or why the command was refused.
type Reply = Result<Value, String>;

/// The arguments of a command.
#[derive(Debug)]
struct Arguments(Map<String, Value>);

impl Arguments {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn need(&self, name: &str) -> Result<&Value, String> {
        let missing = || format!("TypeError(\"the argument '{name}' is missing\")");
        self.get(name).ok_or_else(missing)
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        let wrong = || format!("TypeError(\"the argument '{name}' is no text\")");
        self.need(name)?.as_str().ok_or_else(wrong)
    }

    /// A list of texts, or a single one.
    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        match self.need(name)? {
            Value::String(one) => Ok(vec![one.clone()]),
            Value::Array(all) => Ok(all
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()),
            _ => Err(format!(
                "TypeError(\"the argument '{name}' is no list of texts\")"
            )),
        }
    }

    fn is_set(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Bool(set)) => *set,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            _ => false,
        }
    }
}

/// The reply to a command; none if there is to be none.
pub(super) fn answer(shared: &Arc<Shared>, command: Command) -> Option<Value> {
    let Command { method, arguments } = command;
    let arguments = Arguments(arguments);
    let reply = match inspect::answer(shared, &method, &arguments) {
        Some(reply) => reply,
        None => steer::answer(shared, &method, &arguments)?,
    };
    Some(reply.unwrap_or_else(|refused| {
        debug!("remote control: {method} refused: {refused}");
        json!({"error": refused})
    }))
}

/// As Python says that it was done.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is one of two kinds of replies"
)]
fn ok(value: impl Into<Value>) -> Reply {
    let value: Value = value.into();
    Ok(json!({"ok": value}))
}
