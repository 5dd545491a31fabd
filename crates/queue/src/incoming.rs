//! A message as it comes from the queue: read once, with mercy for what Python may send, and
//! without any for what the worker loop would drop in silence.

mod ordinary;

use crate::{
    canvas::{Canvas, Parent},
    keys,
    task::{ARGUMENTS, Arguments},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, NaiveDateTime, Utc};
use imgsys_types::{Checksum, FailureReason, Job};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{fmt::Display, time::Duration};

/// The place of the argument `run` among [`ARGUMENTS`].
pub(crate) const RUN: usize = 4;

/// A task of ours that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The task's id.
    pub(crate) id: String,
    pub(crate) arguments: Arguments,
    /// That of the image's bytes, if the sender says it.
    pub(crate) checksum: Option<Checksum>,
    /// The message as it came.
    pub(crate) raw: String,
    /// By which it belongs on one of the queue's lists.
    pub(crate) level: u8,
    pub(crate) retries: u32,
    pub(crate) eta: Option<DateTime<Utc>>,
    pub(crate) expires: Option<DateTime<Utc>>,
    pub(crate) time_limit: Option<Duration>,
    /// Whether it has been taken from a holder, or given back by one.
    pub(crate) redelivered: bool,
    pub(crate) kin: Kin,
}

/// How a task is related to others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kin {
    /// The task that began it all, if that is another one.
    pub(crate) root: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) group: Option<String>,
    /// Whether nobody wants Celery's result.
    pub(crate) ignore_result: bool,
    /// What is to be done after it.
    pub(crate) canvas: Option<Box<Canvas>>,
}

impl Kin {
    /// The task of that id, as those that follow it name it.
    pub(crate) fn parent_of<'a>(&'a self, id: &'a str) -> Parent<'a> {
        let root = self.root.as_deref().unwrap_or(id);
        Parent { id, root }
    }
}

/// A message that can't be run, and why.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// The stable reason, for the dead letter.
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    /// The task's id, if it has one.
    pub(crate) id: Option<String>,
    /// The job and its run, if one of our servers waits for it.
    pub(crate) ours: Option<(Job, u32)>,
    /// What is to be done about it.
    pub(crate) kin: Kin,
}

impl Incoming {
    /// Whether its time has not come yet.
    pub(crate) fn is_early(&self) -> bool {
        self.eta.is_some_and(|eta| eta > Utc::now())
    }
}

impl Rejected {
    pub(crate) fn new(reason: &'static str, detail: &(impl Display + ?Sized)) -> Box<Self> {
        Box::new(Self {
            reason,
            detail: detail.to_string(),
            id: None,
            ours: None,
            kin: Kin::default(),
        })
    }

    /// The reason for which its job fails.
    pub(crate) fn failure(&self) -> FailureReason {
        if self.reason == "bad_arguments" {
            FailureReason::BadArguments
        } else {
            FailureReason::DeadLetter
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
    #[serde(rename = "content-type")]
    content_type: String,
    #[serde(rename = "content-encoding", default)]
    content_encoding: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize, Default)]
struct Properties {
    #[serde(default)]
    body_encoding: Option<String>,
    #[serde(default)]
    priority: Option<f64>,
    #[serde(default)]
    delivery_info: Map<String, Value>,
}

#[derive(Deserialize)]
struct Headers {
    id: String,
    task: String,
    #[serde(default)]
    eta: Option<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default)]
    timelimit: Option<(Option<f64>, Option<f64>)>,
    #[serde(default)]
    redelivered: Option<bool>,
    #[serde(default)]
    root_id: Option<String>,
    #[serde(default)]
    parent_id: Option<String>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    ignore_result: Option<bool>,
}

/// The longest message that is run, in bytes. Those of our servers have some two thousand.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// Reads a message. The detail of a rejection never quotes more than names from it.
pub(crate) fn parse(raw: &[u8]) -> Result<Incoming, Box<Rejected>> {
    let read = read(raw);
    if raw.len() <= MAX_MESSAGE {
        return read;
    }
    let length = raw.len();
    let detail = format!("{length} bytes: at most {MAX_MESSAGE} are allowed");
    let mut rejected = Rejected::new("too_long", &detail);
    // Whoever waits for it is told all the same.
    (rejected.id, rejected.ours) = match read {
        Ok(task) => (
            Some(task.id),
            Some((task.arguments.job(), task.arguments.run)),
        ),
        Err(other) => (other.id, other.ours),
    };
    Err(rejected)
}

fn read(raw: &[u8]) -> Result<Incoming, Box<Rejected>> {
    let text = std::str::from_utf8(raw).map_err(|e| Rejected::new("not_json", &e))?;
    ordinary::read(text).map_or_else(|| read_general(text), Ok)
}

/// Reads any message that can be read.
fn read_general(text: &str) -> Result<Incoming, Box<Rejected>> {
    let envelope: Envelope = serde_json::from_str(text).map_err(|e| {
        let reason = if e.is_data() {
            "not_protocol_2"
        } else {
            "not_json"
        };
        Rejected::new(reason, &e)
    })?;
    let id = envelope
        .headers
        .get("id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    open(text, envelope).map_err(|mut rejected| {
        rejected.id = id;
        rejected
    })
}

fn open(raw: &str, envelope: Envelope) -> Result<Incoming, Box<Rejected>> {
    let properties = envelope.properties;
    // One that makes no sense says nothing: the digest decides.
    let checksum = envelope.headers.get(keys::CHECKSUM);
    let checksum = checksum.and_then(Value::as_str).map(str::parse);
    let checksum = checksum.and_then(Result::ok);
    let headers: Headers = serde_json::from_value(Value::Object(envelope.headers))
        .map_err(|e| Rejected::new("not_protocol_2", &e))?;
    if envelope.content_type != "application/json" {
        let detail = format!("content type {:?}", envelope.content_type);
        return Err(Rejected::new("unknown_content_type", &detail));
    }
    match envelope.content_encoding.as_deref() {
        None | Some("utf-8" | "UTF-8" | "utf8" | "us-ascii") => {}
        Some(other) => {
            let detail = format!("content encoding {other:?}");
            return Err(Rejected::new("unknown_content_encoding", &detail));
        }
    }
    let body = match properties.body_encoding.as_deref() {
        Some("base64") => BASE64
            .decode(&envelope.body)
            .map_err(|e| Rejected::new("not_protocol_2", &e))?,
        None => envelope.body.into_bytes(),
        Some(other) => {
            let detail = format!("body encoding {other:?}");
            return Err(Rejected::new("unknown_content_encoding", &detail));
        }
    };
    let (args, kwargs, embed): (Vec<Value>, Map<String, Value>, Value) =
        serde_json::from_slice(&body).map_err(|e| Rejected::new("not_protocol_2", &e))?;
    let kwargs = named(args, kwargs)?;
    // From here on a server may be waiting for it.
    let ours = ours(&kwargs);
    let rejected = |reason, detail: String| {
        let mut rejected = Rejected::new(reason, &detail);
        rejected.ours.clone_from(&ours);
        rejected
    };
    if headers.task != keys::TASK {
        let detail = format!("no task is called {:?} here", headers.task);
        return Err(rejected("unknown_task", detail));
    }
    let kin = Kin {
        root: headers.root_id,
        parent: headers.parent_id,
        group: headers.group,
        ignore_result: headers.ignore_result.unwrap_or(false),
        canvas: Canvas::parse(&embed).map_err(|detail| rejected("unsupported_embed", detail))?,
    };
    let known = kwargs.into_iter();
    let known = known.filter(|(name, _)| ARGUMENTS.contains(&name.as_str()));
    let arguments: Arguments =
        serde_json::from_value(Value::Object(known.collect())).map_err(|e| {
            let mut rejected = rejected("bad_arguments", e.to_string());
            rejected.kin = kin.clone();
            rejected
        })?;
    let time = |name: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => parse_time(&text)
            .map(Some)
            .ok_or_else(|| rejected("not_protocol_2", format!("{name} is no time: {text:?}"))),
    };
    let redelivered = headers.redelivered.unwrap_or(false)
        || properties.delivery_info.get("redelivered") == Some(&Value::Bool(true));
    Ok(Incoming {
        level: level(properties.priority),
        eta: time("eta", headers.eta)?,
        expires: time("expires", headers.expires)?,
        time_limit: headers.timelimit.and_then(time_limit),
        retries: headers.retries.unwrap_or(0),
        id: headers.id,
        raw: raw.to_owned(),
        arguments,
        checksum,
        redelivered,
        kin,
    })
}

/// All arguments by name. Names that nobody knows are left, for they may be of a later version.
fn named(
    args: Vec<Value>,
    mut kwargs: Map<String, Value>,
) -> Result<Map<String, Value>, Box<Rejected>> {
    if args.len() > ARGUMENTS.len() {
        return Err(Rejected::new("bad_arguments", "too many arguments"));
    }
    kwargs.extend(ARGUMENTS.iter().map(ToString::to_string).zip(args));
    Ok(kwargs)
}

/// The job that the arguments speak of, if they make sense so far that its server would know it.
fn ours(kwargs: &Map<String, Value>) -> Option<(Job, u32)> {
    let mut known = Map::new();
    for required in ["job", "sha256", "owner", "server"] {
        known.insert(required.to_owned(), kwargs.get(required)?.clone());
    }
    known.insert("size".into(), 0.into());
    known.insert("image_url".into(), "".into());
    let mut arguments: Arguments = serde_json::from_value(Value::Object(known.clone())).ok()?;
    for optional in [
        "size",
        "run",
        "name",
        "priority",
        "submitted_at",
        "accepted_at",
    ] {
        let Some(value) = kwargs.get(optional) else {
            continue;
        };
        known.insert(optional.to_owned(), value.clone());
        match serde_json::from_value(Value::Object(known.clone())) {
            Ok(better) => arguments = better,
            Err(_) => drop(known.remove(optional)),
        }
        known.entry("size").or_insert(0.into());
    }
    Some((arguments.job(), arguments.run))
}

/// ISO 8601, with the offset or, as some Python programs send it, in UTC without.
fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    zoned
        .or_else(|_| text.parse::<NaiveDateTime>().map(|time| time.and_utc()))
        .ok()
}

/// The shorter of the hard and the soft limit, in whatever order.
fn time_limit((one, other): (Option<f64>, Option<f64>)) -> Option<Duration> {
    let limits = [one, other].into_iter().flatten();
    let least = limits.reduce(f64::min)?;
    Duration::try_from_secs_f64(least).ok()
}

/// A priority as Kombu reads it: 0 if none is said.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn level(priority: Option<f64>) -> u8 {
    priority.unwrap_or(0.0).clamp(0.0, 9.0) as u8
}

/// The message as it is put back after its holder died. `None` if it is no JSON object.
pub(crate) fn redelivered(mut message: Value) -> Option<String> {
    let object = message.as_object_mut()?;
    if let Some(headers) = object.get_mut("headers").and_then(Value::as_object_mut) {
        headers.insert("redelivered".into(), true.into());
    }
    if let Some(info) = message
        .pointer_mut("/properties/delivery_info")
        .and_then(Value::as_object_mut)
    {
        info.insert("redelivered".into(), true.into());
    }
    Some(message.to_string())
}

/// The message by which a task is tried again at that time.
pub(crate) fn retried(raw: &str, eta: DateTime<Utc>) -> Result<String, serde_json::Error> {
    let mut message: Value = serde_json::from_str(raw)?;
    if let Some(headers) = message.get_mut("headers").and_then(Value::as_object_mut) {
        let retries = headers.get("retries").and_then(Value::as_u64).unwrap_or(0);
        headers.insert("retries".into(), (retries + 1).into());
        headers.insert("eta".into(), eta.to_rfc3339().into());
    }
    if let Some(properties) = message.get_mut("properties").and_then(Value::as_object_mut) {
        let tag = uuid::Uuid::new_v4().to_string();
        properties.insert("delivery_tag".into(), tag.into());
    }
    Ok(message.to_string())
}

#[cfg(test)]
mod tests;
