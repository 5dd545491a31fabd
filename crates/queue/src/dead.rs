//! Dead letters: messages that were set aside, and what may be done about them.

use crate::{
    QueueError,
    incoming::{self, level},
    keys,
    link::Link,
    scripts,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_types::{Job, JobId};
use redis::cmd;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// How many bytes of a letter's digest are its id.
const ID: usize = 6;

/// The dead letters of a Redis.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    link: Link,
}

/// A message that was set aside.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// By which it is called: twelve hexadecimal digits, the same whatever else comes and goes.
    pub id: String,
    /// The stable reason.
    pub reason: String,
    /// A sentence for people; it may quote the message.
    pub detail: String,
    /// The queue that it came from.
    pub queue: String,
    /// When it was set aside: ISO 8601.
    pub at: String,
    /// The id of its task, if it has one.
    pub task: Option<String>,
    /// The job that it was for, if it says so.
    pub job: Option<JobId>,
    /// The message as it came.
    pub message: String,
    /// The letter as it lies in Redis.
    #[serde(skip)]
    entry: Vec<u8>,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// What became of a letter that was to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revived {
    /// It is on the queue, as the task of this id.
    Queued(String),
    /// Somebody else has taken it meanwhile.
    Gone,
    /// The end of its job is not in the database yet, or its next run has not ended: try later.
    Open,
    /// No worker could make anything of it.
    Unreadable,
}

/// The form in which letters are written.
#[derive(Deserialize)]
struct Letter {
    reason: String,
    detail: String,
    queue: String,
    at: String,
    message: String,
}

impl DeadLetters {
    /// The dead letters of the Redis at this URL, which need not be up. Needs a Tokio runtime.
    pub fn new(url: &str) -> Result<Self, QueueError> {
        let link = Link::new(url)?;
        Ok(Self { link })
    }

    /// So many letters, the oldest first, after the oldest `skip` of them.
    pub async fn page(&self, skip: usize, count: usize) -> Result<Vec<DeadLetter>, QueueError> {
        // The newest are pushed at the left, so places counted from the right stay.
        let place = |from_right: usize| format!("-{from_right}");
        let mut range = cmd("LRANGE");
        range
            .arg(self.link.keys().dead())
            .arg(place(skip + count))
            .arg(place(skip + 1));
        let entries: Vec<Vec<u8>> = self
            .link
            .query(&range)
            .await
            .map_err(QueueError::unavailable("tell what was set aside"))?;
        Ok(entries.into_iter().rev().map(DeadLetter::read).collect())
    }

    /// Forgets a letter; `false` if somebody else has taken it meanwhile.
    pub async fn drop(&self, letter: &DeadLetter) -> Result<bool, QueueError> {
        let mut remove = cmd("LREM");
        remove.arg(self.link.keys().dead()).arg(-1);
        remove.arg(&letter.entry);
        let removed: u64 = self
            .link
            .query(&remove)
            .await
            .map_err(QueueError::unavailable("drop a dead letter"))?;
        Ok(removed > 0)
    }

    /// Puts a letter's message on the queue once more, with a clean slate: nobody has died of it,
    /// and it does not expire. If a server's job has failed by it, that is the job's next run.
    pub async fn requeue(&self, letter: &DeadLetter) -> Result<Revived, QueueError> {
        let ours = letter.ours();
        let next = ours.as_ref().map(|(job, run)| (job, run.saturating_add(1)));
        let again = next.as_ref().map(|(job, run)| (job.id, *run));
        let Some(message) = Message::again(&letter.message, again) else {
            return Ok(Revived::Unreadable);
        };
        let keys = self.link.keys();
        let server = next
            .as_ref()
            .map_or_else(keys::no_server, |(job, _)| job.server);
        let mut call = scripts::REVIVE.key(keys.dead());
        call.key(keys.takeovers())
            .key(keys.priority_list(keys::QUEUE, message.level))
            .key(keys.open(server))
            .arg(&letter.entry)
            .arg(&message.id)
            .arg(&message.text)
            .arg(again.map_or_else(String::new, |(job, _)| job.to_string()))
            .arg(again.map_or_else(String::new, |(_, run)| keys::queued(run)));
        let outcome: String = self
            .link
            .script(&call)
            .await
            .map_err(QueueError::unavailable("take a dead letter back"))?;
        Ok(match outcome.as_str() {
            "queued" => Revived::Queued(message.id),
            "open" => Revived::Open,
            _ => Revived::Gone,
        })
    }
}

impl DeadLetter {
    fn read(entry: Vec<u8>) -> Self {
        let digest = Sha256::digest(&entry);
        let id = digest[..ID].iter().map(|byte| format!("{byte:02x}"));
        let letter = serde_json::from_slice(&entry).unwrap_or_else(|error| Letter {
            reason: "no_letter".to_owned(),
            detail: format!("this is no dead letter of ours: {error}"),
            queue: String::new(),
            at: String::new(),
            message: String::from_utf8_lossy(&entry).into_owned(),
        });
        let mut read = Self {
            id: id.collect(),
            reason: letter.reason,
            detail: letter.detail,
            queue: letter.queue,
            at: letter.at,
            task: None,
            job: None,
            message: letter.message,
            entry,
        };
        match incoming::parse(read.message.as_bytes()) {
            Ok(task) => {
                read.task = Some(task.id);
                read.job = Some(task.arguments.job);
            }
            Err(rejected) => {
                read.task = rejected.id;
                read.job = rejected.ours.map(|(job, _)| job.id);
            }
        }
        read
    }

    /// The job that it was for and its run, if a server sent it.
    fn ours(&self) -> Option<(Job, u32)> {
        let ours = match incoming::parse(self.message.as_bytes()) {
            Ok(task) => Some((task.arguments.job(), task.arguments.run)),
            Err(rejected) => rejected.ours,
        };
        ours.filter(|(job, _)| job.server != keys::no_server())
    }
}

/// A message that is sent once more.
struct Message {
    id: String,
    level: u8,
    text: String,
}

impl Message {
    /// The message with a clean slate, as that run of the job if it is one's. `None` if it is no
    /// message at all.
    fn again(raw: &str, run: Option<(JobId, u32)>) -> Option<Self> {
        let mut message: Map<String, Value> = serde_json::from_str(raw).ok()?;
        let before = message.get("headers")?.get("id")?.as_str()?.to_owned();
        let id = run.map_or_else(|| before.clone(), |(job, run)| keys::task_id(job, run));
        if let Some((_, run)) = run {
            let encoded = message.get("properties")?.get("body_encoding").cloned();
            let body = message.get("body")?.as_str()?;
            let body = with_run(body, encoded.is_some_and(|by| by == "base64"), run)?;
            message.insert("body".into(), body.into());
        }
        let headers = message.get_mut("headers")?.as_object_mut()?;
        headers.remove("redelivered");
        headers.insert("expires".into(), Value::Null);
        headers.insert("retries".into(), 0.into());
        if headers.get("root_id").is_some_and(|root| *root == *before) {
            headers.insert("root_id".into(), id.as_str().into());
        }
        headers.insert("id".into(), id.as_str().into());
        let properties = message.get_mut("properties")?.as_object_mut()?;
        properties.insert("correlation_id".into(), id.as_str().into());
        properties.insert("delivery_tag".into(), Uuid::new_v4().to_string().into());
        let info = properties.get_mut("delivery_info");
        if let Some(info) = info.and_then(Value::as_object_mut) {
            info.remove("redelivered");
        }
        let level = level(properties.get("priority").and_then(Value::as_f64));
        let text = Value::Object(message).to_string();
        Some(Self { id, level, text })
    }
}

/// A message's body with another run among its arguments.
fn with_run(body: &str, base64: bool, run: u32) -> Option<String> {
    let plain = if base64 {
        BASE64.decode(body).ok()?
    } else {
        body.as_bytes().to_vec()
    };
    let (mut args, mut kwargs, embed): (Vec<Value>, Map<String, Value>, Value) =
        serde_json::from_slice(&plain).ok()?;
    match args.get_mut(incoming::RUN) {
        Some(given) => *given = run.into(),
        None => drop(kwargs.insert("run".into(), run.into())),
    }
    let plain = serde_json::to_vec(&(args, kwargs, embed)).ok()?;
    if base64 {
        Some(BASE64.encode(plain))
    } else {
        String::from_utf8(plain).ok()
    }
}
