//! The task `imgsys.analyze`: its arguments, and the message that carries them.
//!
//! The message is what Python's Celery sends, field by field: protocol 2, JSON, the body in base64.

use crate::{
    QueueError, json, keys,
    monitor::python::{self, Repr},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_types::{
    Checksum, Digest, Job, JobId, Owner, Priority, ServerId, Timestamp, clean_name,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{fmt::Write, sync::LazyLock};
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
    /// That of the image's bytes, if it is known.
    pub checksum: Option<Checksum>,
}

/// The task's keyword arguments: flat and plain, for any language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(default)]
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

/// What is the same in all our messages, from behind `kwargsrepr` to the priority.
static SHARED: LazyLock<String> = LazyLock::new(|| {
    let (origin, reply_to, queue) = (json!(*ORIGIN), json!(*REPLY_TO), json!(keys::QUEUE));
    let headers = r#""argsrepr":"()","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"parent_id":null,"ignore_result":false,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}"#;
    let properties = r#""delivery_mode":2,"body_encoding":"base64""#;
    let delivery = format!(r#"{{"exchange":"","routing_key":{queue}}}"#);
    format!(
        r#""origin":{origin},{headers}}},"properties":{{"reply_to":{reply_to},{properties},"delivery_info":{delivery},"priority":"#
    )
});

impl Task {
    pub(crate) fn id(&self) -> String {
        keys::task_id(self.job.id, self.run)
    }

    /// Its arguments as Python would write them: for people who look at Flower.
    pub(crate) fn kwargs_repr(&self) -> String {
        let Self { job, run, .. } = self;
        let (id, sha256, size, owner) = (job.id, job.sha256, job.size, &job.owner);
        let (url, name, server) = (Repr(&self.image_url), Repr(&job.name), job.server);
        let (level, at) = (job.priority.get(), job.submitted_at.as_micros());
        let mut out = String::with_capacity(512);
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "{{'job': '{id}', 'sha256': '{sha256}', 'size': {size}, 'image_url': {url}, \
             'run': {run}, 'owner': '{owner}', 'server': '{server}', 'name': {name}, \
             'priority': {level}, 'submitted_at': {at}}}"
        );
        python::cut(out)
    }

    /// The message's body: its arguments, all by name, and that nothing is to follow.
    fn body(&self) -> Result<String, QueueError> {
        let Self { job, run, .. } = self;
        let (id, sha256, size, owner) = (job.id, job.sha256, job.size, &job.owner);
        let (url, name) = (json::inner(&self.image_url)?, json::inner(&job.name)?);
        let (level, at, server) = (job.priority.get(), job.submitted_at.as_micros(), job.server);
        let mut out = String::with_capacity(512 + url.len() + name.len());
        let _ = write!(
            out,
            r#"[[],{{"job":"{id}","sha256":"{sha256}","size":{size},"image_url":"{url}","run":{run},"owner":"{owner}","server":"{server}","name":"{name}","priority":{level},"submitted_at":{at}"#
        );
        // Only later runs have it.
        if *run > 0 {
            let _ = write!(out, r#","accepted_at":{}"#, self.accepted_at.as_micros());
        }
        out.push_str(r#"},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#);
        Ok(out)
    }

    /// The message for the queue.
    pub(crate) fn message(&self) -> Result<String, QueueError> {
        let (id, body, repr) = (self.id(), self.body()?, self.kwargs_repr());
        let (body, repr) = (BASE64.encode(body), json::inner(&repr)?);
        let (task, shared, level) = (keys::TASK, &**SHARED, self.job.priority.get());
        let tag = Uuid::new_v4();
        let mut out = String::with_capacity(body.len() + repr.len() + shared.len() + 512);
        // Ids have nothing in them that JSON writes otherwise.
        let _ = write!(
            out,
            r#"{{"body":"{body}","content-encoding":"utf-8","content-type":"application/json","headers":{{"lang":"rust","task":"{task}","id":"{id}","root_id":"{id}","kwargsrepr":"{repr}","#
        );
        if let Some(checksum) = self.checksum {
            let _ = write!(out, r#""{}":"{checksum}","#, keys::CHECKSUM);
        }
        let _ = write!(
            out,
            r#"{shared}{level},"correlation_id":"{id}","delivery_tag":"{tag}"}}}}"#
        );
        Ok(out)
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

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_types::arbitrary::typical;

    /// The message as values, which is what docs/queue.md says.
    fn expected(task: &Task, tag: &Value) -> Value {
        let (id, job) = (task.id(), &task.job);
        let mut arguments = json!({
            "job": job.id,
            "sha256": job.sha256,
            "size": job.size,
            "image_url": task.image_url,
            "run": task.run,
            "owner": job.owner,
            "server": job.server,
            "name": job.name,
            "priority": job.priority,
            "submitted_at": job.submitted_at,
        });
        if task.run > 0 {
            arguments["accepted_at"] = json!(task.accepted_at);
        }
        let mut message = json!({
            "body": [[], arguments, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}],
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "rust",
                "task": "imgsys.analyze",
                "id": id,
                "root_id": id,
                "parent_id": null,
                "shadow": null,
                "eta": null,
                "expires": null,
                "group": null,
                "group_index": null,
                "retries": 0,
                "timelimit": [null, null],
                "argsrepr": "()",
                "kwargsrepr": task.kwargs_repr(),
                "origin": *ORIGIN,
                "ignore_result": false,
                "replaced_task_nesting": 0,
                "stamped_headers": null,
                "stamps": {},
            },
            "properties": {
                "correlation_id": id,
                "reply_to": *REPLY_TO,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "imgsys"},
                "priority": job.priority,
                "body_encoding": "base64",
                "delivery_tag": tag,
            },
        });
        if let Some(checksum) = task.checksum {
            message["headers"]["xxh3"] = json!(checksum);
        }
        message
    }

    #[test]
    fn message_is_what_the_norm_says() {
        let job = typical().job;
        let checksum = Checksum::of(b"abc");
        for (run, name, image_url, checksum) in [
            (0, "a plain name.jpg", "file:///images/c4", Some(checksum)),
            (3, "it's \"ä\" \\ \u{1}\n.jpg", "https://host/ü'\"\\", None),
        ] {
            let task = Task {
                job: Job {
                    name: name.into(),
                    ..job.clone()
                },
                run,
                accepted_at: Timestamp::from_micros(7),
                image_url: image_url.into(),
                checksum,
            };
            let mut message: Value = serde_json::from_str(&task.message().unwrap()).unwrap();
            let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
            message["body"] = serde_json::from_slice(&body).unwrap();
            let tag = message["properties"]["delivery_tag"].clone();
            assert!(Uuid::try_parse(tag.as_str().unwrap()).is_ok());
            assert_eq!(message, expected(&task, &tag));
        }
    }
}
