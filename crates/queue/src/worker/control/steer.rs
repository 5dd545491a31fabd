//! Commands: what others may change about a worker.

use super::{Arguments, Reply, ok};
use crate::{
    keys,
    monitor::{events::TaskEvent, python},
    worker::{Shared, finish::Finish, leases::Revoked},
};
use imgsys_types::{Failure, FailureReason, JobResult};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// The most threads that a worker may grow to.
const MAX_THREADS: usize = 1024;
/// SIGTERM, by which Python would end a task's process.
const TERMINATED: u8 = 15;
/// Why a task was not run, or not to its end.
pub(in super::super) const REVOKED: &str = "revoked by remote control";

/// The reply to a command; `None` if there is to be none.
pub(super) fn answer(shared: &Arc<Shared>, method: &str, arguments: &Arguments) -> Option<Reply> {
    Some(match method {
        "shutdown" => {
            warn!("told by remote control to shut down");
            shared.control.shutdown.cancel();
            return None;
        }
        "enable_events" => task_events(shared, true),
        "disable_events" => task_events(shared, false),
        "heartbeat" => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let active = shared.leases.active();
                // The link notes it if Redis is away.
                let _ = shared.events.beat(&shared.link, "heartbeat", active).await;
            });
            Ok(Value::Null)
        }
        "revoke" => revoke(shared, arguments, arguments.is_set("terminate")),
        "terminate" => revoke(shared, arguments, true),
        "rate_limit" => rate_limit(shared, arguments),
        "time_limit" => time_limit(shared, arguments),
        "pool_grow" => resize(shared, arguments, true),
        "pool_shrink" => resize(shared, arguments, false),
        "add_consumer" => consume(shared, arguments, true),
        "cancel_consumer" => consume(shared, arguments, false),
        "autoscale" => Err("ValueError('Autoscale not enabled')".to_owned()),
        "pool_restart" => Err("ValueError('Pool restarts not enabled')".to_owned()),
        "revoke_by_stamped_headers" => {
            Err("NotImplementedError('stamps are not looked at: revoke by task id')".to_owned())
        }
        // Other workers may hold one; this one does not stand.
        "election" => Ok(Value::Null),
        unknown => Err(format!("KeyError({})", python::string(unknown))),
    })
}

fn task_events(shared: &Shared, on: bool) -> Reply {
    let what = if on { "enabled" } else { "disabled" };
    match shared.events.set_tasks(on) {
        None => Err("event dispatcher unavailable".to_owned()),
        Some(true) => {
            info!("events of tasks {what} by remote control");
            ok(format!("task events {what}"))
        }
        Some(false) => ok(format!("task events already {what}")),
    }
}

fn revoke(shared: &Arc<Shared>, arguments: &Arguments, stop: bool) -> Reply {
    let ids = arguments.texts("task_id")?;
    let shown: Vec<String> = ids.iter().map(|id| python::string(id)).collect();
    let shown = python::cut(shown.join(", "));
    info!("revoked by remote control: {shown}");
    let stopped = shared.revoke(ids, stop);
    if !stop {
        ok(format!("tasks {{{shown}}} flagged as revoked"))
    } else if stopped.is_empty() {
        ok("terminate: tasks unknown")
    } else {
        ok(format!("terminate: {}", stopped.join(", ")))
    }
}

impl Shared {
    /// Sees to it that these tasks don't run, and stops those that do, if that is wanted. Gives those
    /// that were here and are stopped.
    pub(in super::super) fn revoke(self: &Arc<Self>, ids: Vec<String>, stop: bool) -> Vec<String> {
        self.control.revoked.add(ids.iter().cloned());
        let mut stopped = Vec::new();
        for id in ids {
            match self.leases.revoke(&id, stop) {
                Revoked::NotHere | Revoked::Runs => {}
                Revoked::Stopped => stopped.push(id),
                Revoked::Waits(lease) => {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move { shared.end_revoked(&lease).await });
                    stopped.push(id);
                }
            }
        }
        stopped
    }

    /// Ends a task that was revoked before it began.
    pub(in super::super) async fn end_revoked(&self, lease: &str) {
        let Some(released) = self.leases.end(lease) else {
            return;
        };
        let id = released.task.id.clone();
        let failure = Failure::new(FailureReason::Revoked, REVOKED);
        let result = JobResult {
            worker: Some(self.options.name.clone()),
            ..JobResult::failed(released.task.arguments.run, failure)
        };
        self.settle(lease, Finish::task(released, result)).await;
        self.events.task(&id, revoked(false));
    }
}

/// That a task was revoked; if `terminated`, while it ran.
pub(in super::super) fn revoked(terminated: bool) -> TaskEvent<'static> {
    TaskEvent::Revoked {
        terminated,
        signum: terminated.then_some(TERMINATED),
        expired: false,
    }
}

/// Fails unless the command is about the one task that there is.
fn our_task(arguments: &Arguments) -> Result<(), String> {
    if arguments.text("task_name")? == keys::TASK {
        Ok(())
    } else {
        Err("unknown task".to_owned())
    }
}

fn rate_limit(shared: &Shared, arguments: &Arguments) -> Reply {
    let text = match arguments.0.get("rate_limit") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(false)) => "0".to_owned(),
        _ => return Err("TypeError(\"the argument 'rate_limit' is missing\")".to_owned()),
    };
    our_task(arguments)?;
    let limited = shared.control.rate.set(&text);
    if limited.map_err(|wrong| format!("Invalid rate limit string: {wrong}"))? {
        info!("tasks limited to {text} by remote control");
        ok("new rate limit set successfully")
    } else {
        info!("tasks limited no more by remote control");
        ok("rate limit disabled successfully")
    }
}

fn time_limit(shared: &Shared, arguments: &Arguments) -> Reply {
    our_task(arguments)?;
    let mut least: Option<Duration> = None;
    for name in ["soft", "hard"] {
        let Some(value) = arguments.get(name) else {
            continue;
        };
        let limit = value.as_f64().map(Duration::try_from_secs_f64);
        let Some(Ok(limit)) = limit else {
            return Err(format!("ValueError(\"'{name}' is no number of seconds\")"));
        };
        least = Some(least.map_or(limit, |least| least.min(limit)));
    }
    info!("time limit of tasks set to {least:?} by remote control");
    shared.control.set_time_limit(least);
    ok("time limits set successfully")
}

fn resize(shared: &Arc<Shared>, arguments: &Arguments, grow: bool) -> Reply {
    let n = match arguments.get("n") {
        None => 1,
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0),
    };
    if n == 0 {
        return Err("ValueError('n is no number of threads')".to_owned());
    }
    let now = shared.analyzer.threads().max(1);
    let threads = if grow {
        Some(now.saturating_add(n)).filter(|threads| *threads <= MAX_THREADS)
    } else {
        now.checked_sub(n).filter(|threads| *threads > 0)
    };
    let Some(threads) = threads else {
        return Err(format!(
            "ValueError('{now} threads now: 1 to {MAX_THREADS} there may be')"
        ));
    };
    let refused = |why: String| format!("RuntimeError({})", python::string(&why));
    shared.analyzer.resize(threads).map_err(refused)?;
    // As many a thread as before.
    shared.change_prefetch(
        n.saturating_mul((shared.prefetch.least() / now).max(1)),
        grow,
    );
    info!(
        threads,
        prefetch = shared.prefetch.least(),
        "pool resized by remote control"
    );
    ok(if grow {
        "pool will grow"
    } else {
        "pool will shrink"
    })
}

fn consume(shared: &Shared, arguments: &Arguments, on: bool) -> Reply {
    let queue = arguments.text("queue")?;
    if queue == keys::QUEUE {
        let changed = shared.control.consuming.send_replace(on) != on;
        if changed {
            let what = if on { "takes" } else { "takes no" };
            info!("the worker {what} tasks from now on, by remote control");
        }
    } else if on {
        let only = format!(
            "this worker takes tasks from the queue {:?} only",
            keys::QUEUE
        );
        return Err(format!("ValueError({})", python::string(&only)));
    }
    ok(if on {
        format!("add consumer {queue}")
    } else {
        format!("no longer consuming from {queue}")
    })
}
