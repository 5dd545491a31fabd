//! Carrying on: the messages that a task's end brings about.

use super::{Call, Canvas, Chain, Signature, is_none, list, text};
use crate::{incoming::level, monitor::python, task};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Celery's default queue, for callbacks that name none.
const DEFAULT_QUEUE: &str = "celery";

/// The task that has ended, as those that follow it name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) id: &'a str,
    pub(crate) root: &'a str,
}

/// What follows the end of a task.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The messages to be put on queues.
    pub(crate) sent: Vec<Sent>,
    /// The same as Celery's result names them.
    pub(crate) children: Vec<Value>,
    /// The ids of tasks that will not be run, and end as this one did.
    pub(crate) failed: Vec<String>,
}

/// A message for a queue.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) queue: String,
    pub(crate) level: u8,
    pub(crate) message: String,
}

/// How a call is sent, beyond what it says itself.
#[derive(Clone, Copy, Default)]
struct How<'a> {
    /// The group that it is in, and its place there.
    group: Option<(&'a str, usize)>,
    /// The rest of the chain, if it is in one.
    chain: Option<&'a Value>,
}

struct Sender<'a> {
    parent: Parent<'a>,
    /// What is put before the arguments.
    first: Value,
    sent: Vec<Sent>,
}

impl Canvas {
    /// What follows a success with this result.
    pub(crate) fn succeeded(&self, parent: Parent<'_>, result: &Value) -> Followed {
        let mut sender = Sender::new(parent, result.clone());
        let mut children = Vec::new();
        if let [one] = &self.callbacks[..] {
            children.push(sender.call(one, How::default()));
        } else if !self.callbacks.is_empty() {
            let (groups, others): (Vec<&Call>, Vec<&Call>) = self
                .callbacks
                .iter()
                .partition(|call| matches!(call, Call::Group { .. }));
            for group in groups {
                children.push(sender.call(group, How::default()));
            }
            if !others.is_empty() {
                children.push(sender.group(None, others.into_iter(), How::default()));
            }
        }
        if let Some(next) = &self.next {
            let rest = Value::Array(self.rest.clone());
            let how = How {
                chain: Some(&rest),
                ..How::default()
            };
            children.push(sender.call(next, how));
        }
        Followed {
            sent: sender.sent,
            children,
            failed: Vec::new(),
        }
    }

    /// What follows a failure. If the task was not run at all, nobody is told but those that wait
    /// for the rest of the chain.
    pub(crate) fn failed(&self, parent: Parent<'_>, ran: bool) -> Followed {
        let mut sender = Sender::new(parent, parent.id.into());
        if ran && !self.errbacks.is_empty() {
            sender.group(None, self.errbacks.iter(), How::default());
        }
        Followed {
            sent: sender.sent,
            children: Vec::new(),
            failed: self.chained.clone(),
        }
    }
}

impl<'a> Sender<'a> {
    fn new(parent: Parent<'a>, first: Value) -> Self {
        Self {
            parent,
            first,
            sent: Vec::new(),
        }
    }

    /// Sends a call; gives it as Celery's results name it: `[[id, parent], children]`.
    fn call(&mut self, call: &Call, how: How<'_>) -> Value {
        match call {
            Call::One(one) => json!([[self.one(one, how), null], null]),
            Call::Chain(chain) => self.chain(chain, how),
            Call::Group { id, calls } => self.group(id.clone(), calls.iter(), how),
        }
    }

    fn group<'c>(
        &mut self,
        id: Option<String>,
        calls: impl Iterator<Item = &'c Call>,
        how: How<'_>,
    ) -> Value {
        let id = id.unwrap_or_else(fresh);
        let each = calls.enumerate().map(|(index, call)| {
            let group = Some((id.as_str(), index));
            self.call(call, How { group, ..how })
        });
        let each: Vec<Value> = each.collect();
        json!([[id, null], each])
    }

    /// Sends the first task of a chain, and with it the others, the last one first.
    fn chain(&mut self, chain: &Chain, how: How<'_>) -> Value {
        let Chain { first, rest, id } = chain;
        let mut rest = rest.clone();
        let mut ids = Vec::new();
        let count = rest.len();
        for (index, task) in rest.iter_mut().enumerate() {
            let last = index + 1 == count;
            let Some(options) = task.get_mut("options").and_then(Value::as_object_mut) else {
                continue;
            };
            options.insert("root_id".into(), self.parent.root.into());
            let mut offer = |name: &str, value: Value| options.entry(name).or_insert(value).clone();
            offer("reply_to", task::REPLY_TO.as_str().into());
            if last && let Some((group, place)) = how.group {
                offer("group_id", group.into());
                offer("group_index", place.into());
            }
            let given = id.clone().filter(|_| last);
            ids.push(offer("task_id", given.unwrap_or_else(fresh).into()));
        }
        rest.reverse();
        if let Some(outer) = how.chain {
            // The chain's last task is followed by what follows the chain.
            let mut all = list(outer).to_vec();
            all.extend(rest);
            rest = all;
        }
        let rest = Value::Array(rest);
        let alone = How {
            group: how.group.filter(|_| count == 0),
            chain: Some(&rest),
        };
        let first = json!([self.one(first, alone), null]);
        if how.group.is_none() {
            return json!([first, null]);
        }
        let last = ids.into_iter();
        json!([
            last.fold(first, |parent, id| json!([id, [parent, null]])),
            null
        ])
    }

    /// Sends a single task; gives its id.
    fn one(&mut self, signature: &Signature, how: How<'_>) -> String {
        let message = Message {
            signature,
            parent: self.parent,
            how,
        };
        let (id, sent) = message.write(&self.first);
        self.sent.push(sent);
        id
    }
}

/// A message that is written.
struct Message<'a> {
    signature: &'a Signature,
    parent: Parent<'a>,
    how: How<'a>,
}

impl Message<'_> {
    fn option(&self, name: &str) -> Value {
        self.signature
            .options
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        text(&self.option(name)).filter(|text| !text.is_empty())
    }

    fn write(&self, first: &Value) -> (String, Sent) {
        let Signature {
            task,
            args,
            kwargs,
            immutable,
            ..
        } = self.signature;
        let mut all = Vec::new();
        if !immutable {
            all.push(first.clone());
        }
        all.extend(args.iter().cloned());
        let id = self.text("task_id").unwrap_or_else(fresh);
        let headers = self.headers(&id, task, &all, kwargs);
        let links = |name: &str| match self.option(name) {
            value if is_none(&value) => Value::Null,
            Value::Array(all) => all.into(),
            one => json!([one]),
        };
        let embed = json!({
            "callbacks": links("link"),
            "errbacks": links("link_error"),
            "chain": self.how.chain.cloned().unwrap_or_else(|| self.option("chain")),
            "chord": null,
        });
        let queue = self.text("queue");
        let queue = queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned());
        let level = level(self.option("priority").as_f64());
        let mut properties = Map::new();
        if let Some(seconds) = self.option("expires").as_f64() {
            // As Kombu writes it, though Redis does not look at it.
            properties.insert(
                "expiration".into(),
                format!("{:.0}", seconds * 1000.0).into(),
            );
        }
        if let Some(reply_to) = self.text("reply_to") {
            properties.insert("reply_to".into(), reply_to.into());
        }
        let body = json!([all, kwargs, embed]).to_string();
        let message = task::message(&id, &headers, body.as_bytes(), &queue, level, properties);
        let sent = Sent {
            queue,
            level,
            message,
        };
        (id, sent)
    }

    fn headers(&self, id: &str, task: &str, args: &[Value], kwargs: &Map<String, Value>) -> Value {
        let eta = match self.option("countdown").as_f64() {
            Some(seconds) if seconds > 0.0 => later(seconds),
            _ => self.option("eta"),
        };
        let expires = match self.option("expires") {
            Value::Number(seconds) => later(seconds.as_f64().unwrap_or_default()),
            other => other,
        };
        let or_zero = |name: &str| match self.option(name) {
            Value::Null => json!(0),
            value => value,
        };
        let (group, index) = match (self.text("group_id"), self.how.group) {
            // A place in a group is told also if the group is another one's.
            (Some(own), place) => {
                let index = place.map_or_else(|| self.option("group_index"), |(_, at)| at.into());
                (own.into(), index)
            }
            (None, Some((group, place))) => (group.into(), place.into()),
            (None, None) => (Value::Null, self.option("group_index")),
        };
        let stamped = self.option("stamped_headers");
        let stamps: Map<String, Value> = stamped
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|name| (name.to_owned(), self.option(name)))
            .collect();
        json!({
            "lang": "rust",
            "task": task,
            "id": id,
            "shadow": self.option("shadow"),
            "eta": eta,
            "expires": expires,
            "group": group,
            "group_index": index,
            "retries": or_zero("retries"),
            "timelimit": [self.option("time_limit"), self.option("soft_time_limit")],
            "root_id": self.parent.root,
            "parent_id": self.parent.id,
            "argsrepr": python::tuple(args),
            "kwargsrepr": python::value(&Value::Object(kwargs.clone())),
            "origin": *task::ORIGIN,
            "ignore_result": self.option("ignore_result"),
            "replaced_task_nesting": or_zero("replaced_task_nesting"),
            "stamped_headers": stamped,
            "stamps": stamps,
        })
    }
}

fn fresh() -> String {
    Uuid::new_v4().to_string()
}

/// So many seconds from now, as Python writes times; nothing if no calendar has it.
fn later(seconds: f64) -> Value {
    #[expect(clippy::cast_possible_truncation)]
    let micros = TimeDelta::microseconds((seconds * 1e6) as i64);
    let time: Option<DateTime<Utc>> = Utc::now().checked_add_signed(micros);
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, false))
        .into()
}
