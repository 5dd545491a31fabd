//! A task as monitors are told of it. Its message is read again for that, for monitors are rare.

use super::leases::{Standing, View};
use crate::{incoming::Incoming, keys, monitor::events::TaskEvent};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    headers: Headers<'a>,
}

#[derive(Deserialize, Default)]
struct Headers<'a> {
    #[serde(borrow, default)]
    argsrepr: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kwargsrepr: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    root_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parent_id: Option<Cow<'a, str>>,
}

impl<'a> Headers<'a> {
    /// What is not as Python sends it is left out.
    fn of(task: &'a Incoming) -> Self {
        let told = serde_json::from_str::<Told<'_>>(&task.raw);
        told.map(|told| told.headers).unwrap_or_default()
    }
}

/// Gives the event that a task was received to whoever sends it.
pub(super) fn received(task: &Incoming, send: impl FnOnce(TaskEvent<'_>)) {
    let headers = Headers::of(task);
    send(TaskEvent::Received {
        name: keys::TASK,
        args: headers.argsrepr.as_deref(),
        kwargs: headers.kwargsrepr.as_deref(),
        root_id: headers.root_id.as_deref(),
        parent_id: headers.parent_id.as_deref(),
        retries: task.retries,
        eta: task.eta.map(|eta| eta.to_rfc3339()),
        expires: task.expires.map(|expires| expires.to_rfc3339()),
    });
}

#[derive(Deserialize)]
struct Whole {
    body: String,
    #[serde(default)]
    properties: Map<String, Value>,
}

/// A task as `inspect` tells it; if `safe`, its arguments as texts.
pub(super) fn info(view: &View, hostname: &str, safe: bool) -> Value {
    let task = &view.task;
    let (args, kwargs) = if safe {
        let headers = Headers::of(task);
        (json!(headers.argsrepr), json!(headers.kwargsrepr))
    } else {
        arguments(task)
    };
    let whole: Option<Whole> = serde_json::from_str(&task.raw).ok();
    let properties = whole.map(|whole| whole.properties).unwrap_or_default();
    let delivery = properties.get("delivery_info");
    let part = |name: &str| {
        delivery
            .and_then(|info| info.get(name))
            .cloned()
            .unwrap_or_default()
    };
    let begun = view.begun;
    json!({
        "id": task.id,
        "name": keys::TASK,
        "args": args,
        "kwargs": kwargs,
        "type": keys::TASK,
        "hostname": hostname,
        "time_start": begun,
        "acknowledged": false,
        "delivery_info": {
            "exchange": part("exchange"),
            "routing_key": part("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": task.redelivered,
        },
        "worker_pid": begun.map(|_| std::process::id()),
    })
}

/// The arguments as they came: those without a name, and those with one.
fn arguments(task: &Incoming) -> (Value, Value) {
    let read = || {
        let whole: Whole = serde_json::from_str(&task.raw).ok()?;
        let encoded = whole
            .properties
            .get("body_encoding")
            .is_some_and(|e| e == "base64");
        let body = if encoded {
            BASE64.decode(whole.body).ok()?
        } else {
            whole.body.into_bytes()
        };
        serde_json::from_slice::<(Value, Value, Value)>(&body).ok()
    };
    // It has been read before, so it can be read.
    read().map_or_else(
        || (json!([]), json!({})),
        |(args, kwargs, _)| (args, kwargs),
    )
}

/// How `query_task` calls it.
pub(super) const fn standing(view: &View) -> &'static str {
    match view.standing {
        Standing::Active => "active",
        Standing::Reserved => "reserved",
        Standing::Scheduled => "scheduled",
    }
}
