//! The task `imgsys.analyze`: its arguments, and the message that carries them.
//!
//! The message is what Python's Celery sends, field by field: protocol 2, JSON, the body in base64.

use crate::{QueueError, keys, monitor::python};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_types::{Digest, Job, JobId, Owner, Priority, ServerId, Timestamp, clean_name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use uuid::Uuid;

/// A job to be analysed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The job.
    pub job: Job,
    /// 0 is the submission; each reanalysis adds one.
    pub run: u32,
    /// When this run was accepted; for run 0 that is `job.submitted_at`.
    pub accepted_at: Timestamp,
    /// Where the image is: a `file:` or `http:` URL.
    pub image_url: String,
}

/// The task's keyword arguments: flat and plain, for any language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arguments {
    pub(crate) job: JobId,
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) image_url: String,
    #[serde(default)]
    pub(crate) run: u32,
    #[serde(default = "Owner::local")]
    pub(crate) owner: Owner,
    /// Nil if no server sent the task.
    #[serde(default = "keys::no_server")]
    pub(crate) server: ServerId,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) priority: Priority,
    #[serde(default = "Timestamp::now")]
    pub(crate) submitted_at: Timestamp,
    /// Only later runs have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted_at: Option<Timestamp>,
}

/// The arguments' names in the order in which they may be given without names.
pub(crate) const ARGUMENTS: [&str; 11] = [
    "job",
    "sha256",
    "size",
    "image_url",
    "run",
    "owner",
    "server",
    "name",
    "priority",
    "submitted_at",
    "accepted_at",
];

impl From<&Task> for Arguments {
    fn from(task: &Task) -> Self {
        let job = task.job.clone();
        Self {
            job: job.id,
            sha256: job.sha256,
            size: job.size,
            image_url: task.image_url.clone(),
            run: task.run,
            owner: job.owner,
            server: job.server,
            name: job.name,
            priority: job.priority,
            submitted_at: job.submitted_at,
            accepted_at: (task.run > 0).then_some(task.accepted_at),
        }
    }
}

impl Arguments {
    /// When the run was accepted.
    pub(crate) fn accepted_at(&self) -> Timestamp {
        self.accepted_at.unwrap_or(self.submitted_at)
    }

    pub(crate) fn job(&self) -> Job {
        Job {
            id: self.job,
            owner: self.owner.clone(),
            sha256: self.sha256,
            name: clean_name(&self.name),
            size: self.size,
            priority: self.priority,
            submitted_at: self.submitted_at,
            server: self.server,
        }
    }

    /// As Python would write the arguments: for people who look at Flower.
    fn repr(&self) -> String {
        let text = |value: &dyn ToString| python::string(&value.to_string());
        let pairs = [
            ("job", text(&self.job)),
            ("sha256", text(&self.sha256)),
            ("size", self.size.to_string()),
            ("image_url", text(&self.image_url)),
            ("run", self.run.to_string()),
            ("owner", text(&self.owner)),
            ("server", text(&self.server)),
            ("name", text(&self.name)),
            ("priority", self.priority.get().to_string()),
            ("submitted_at", self.submitted_at.as_micros().to_string()),
        ];
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("'{name}': {value}"))
            .collect();
        python::cut(format!("{{{}}}", pairs.join(", ")))
    }
}

/// Who sent a message, as Celery names a program without a name.
pub(crate) static ORIGIN: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim())
        .filter(|host| !host.is_empty())
        .unwrap_or("localhost");
    format!("gen{}@{host}", std::process::id())
});

/// Where this program would take answers by message; nobody sends any, but Python fills it in.
pub(crate) static REPLY_TO: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());

impl Task {
    pub(crate) fn id(&self) -> String {
        keys::task_id(self.job.id, self.run)
    }

    /// Its arguments as Python would write them.
    pub(crate) fn kwargs_repr(&self) -> String {
        Arguments::from(self).repr()
    }

    /// The message for the queue.
    pub(crate) fn message(&self) -> Result<String, QueueError> {
        let id = self.id();
        let arguments = Arguments::from(self);
        let embed = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
        let body = serde_json::to_vec(&([(); 0], &arguments, embed))?;
        let headers = json!({
                "lang": "rust",
                "task": keys::TASK,
                "id": id,
                "shadow": null,
                "eta": null,
                "expires": null,
                "group": null,
                "group_index": null,
                "retries": 0,
                "timelimit": [null, null],
                "root_id": id,
                "parent_id": null,
                "argsrepr": "()",
                "kwargsrepr": arguments.repr(),
                "origin": *ORIGIN,
                "ignore_result": false,
                "replaced_task_nesting": 0,
                "stamped_headers": null,
                "stamps": {},
        });
        let level = self.job.priority.get();
        Ok(message(
            &id,
            &headers,
            &body,
            keys::QUEUE,
            level,
            Map::new(),
        ))
    }
}

/// A message for a queue, with a delivery tag of its own. Further properties go before ours.
pub(crate) fn message(
    id: &str,
    headers: &Value,
    body: &[u8],
    queue: &str,
    priority: u8,
    more: Map<String, Value>,
) -> String {
    let mut properties = json!({
        "correlation_id": id,
        "reply_to": *REPLY_TO,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": Uuid::new_v4().to_string(),
    });
    if let Value::Object(properties) = &mut properties {
        properties.extend(more);
    }
    json!({
        "body": BASE64.encode(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    })
    .to_string()
}
