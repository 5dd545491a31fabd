//! What a message wants done after its task: Celery's callbacks (`link`), errbacks (`link_error`)
//! and the rest of a chain. Celery calls the whole of it the canvas.
//!
//! It is read when the message comes, so that what can't be carried on is refused before the task
//! runs, and carried on when the task has ended, as Python's workers do. What is sent on leaves with
//! the finishing script: it is sent exactly if the end counts.

mod send;

pub(crate) use send::{Followed, Parent, Sent};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The most that one message may have sent on.
const MAX_CALLS: usize = 1000;

/// What is to be done after a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canvas {
    /// On success, each with the result.
    callbacks: Vec<Call>,
    /// On failure, each with the task's id.
    errbacks: Vec<Call>,
    /// The next of the chain: on success, with the result.
    next: Option<Call>,
    /// What comes after the next, the last one first, as it came.
    rest: Vec<Value>,
    /// The ids of the tasks in the chain, which fail with this one.
    chained: Vec<String>,
}

/// A task that is to be sent, or several.
#[derive(Debug, Clone)]
enum Call {
    One(Signature),
    /// One after the other.
    Chain(Chain),
    /// All at once.
    Group {
        id: Option<String>,
        calls: Vec<Call>,
    },
}

/// Tasks that are to be done one after the other.
#[derive(Debug, Clone)]
struct Chain {
    first: Signature,
    /// The others in their order, as they came.
    rest: Vec<Value>,
    /// The id of the last one, if it is given.
    id: Option<String>,
}

/// Celery's signature: a task, its arguments so far, and how it is to be sent.
#[derive(Debug, Clone, Deserialize)]
struct Signature {
    task: String,
    #[serde(default)]
    args: Vec<Value>,
    #[serde(default)]
    kwargs: Map<String, Value>,
    #[serde(default)]
    options: Map<String, Value>,
    #[serde(default)]
    subtask_type: Option<String>,
    /// Whether it is sent without what is to be put before its arguments.
    #[serde(default)]
    immutable: bool,
}

impl Canvas {
    /// Reads the third part of a message's body. Says what of it can't be carried on.
    pub(crate) fn parse(embed: &Value) -> Result<Option<Box<Self>>, String> {
        if !is_none(&embed["chord"]) {
            return Err("chords are not supported".to_owned());
        }
        let calls = |name: &str| {
            list(&embed[name])
                .iter()
                .map(Call::parse)
                .collect::<Result<Vec<_>, _>>()
        };
        let chain = list(&embed["chain"]);
        for element in chain {
            if element["subtask_type"] == "chord" || !is_none(&element["options"]["chord"]) {
                return Err("chords are not supported".to_owned());
            }
        }
        let mut canvas = Self {
            callbacks: calls("callbacks")?,
            errbacks: calls("errbacks")?,
            chained: chain
                .iter()
                .filter_map(|element| text(&element["options"]["task_id"]))
                .collect(),
            ..Self::default()
        };
        if let Some((next, rest)) = chain.split_last() {
            canvas.next = Some(Call::parse(next)?);
            canvas.rest = rest.to_vec();
        }
        if canvas.next.is_none() && canvas.callbacks.is_empty() && canvas.errbacks.is_empty() {
            return Ok(None);
        }
        let calls = canvas.callbacks.iter().chain(&canvas.errbacks);
        let calls = calls.chain(&canvas.next).map(Call::len).sum::<usize>();
        if calls + canvas.chained.len() > MAX_CALLS {
            return Err(format!("more than {MAX_CALLS} callbacks are not supported"));
        }
        Ok(Some(Box::new(canvas)))
    }
}

impl Call {
    fn parse(value: &Value) -> Result<Self, String> {
        let mut signature = Signature::parse(value)?;
        match signature.subtask_type.as_deref() {
            None => Ok(Self::One(signature.check()?)),
            Some("chain") => Chain::parse(&mut signature),
            Some("group") => {
                let mut options = std::mem::take(&mut signature.options);
                let id = options.remove("task_id").as_ref().and_then(text);
                let tasks = list(signature.tasks()).iter();
                let calls = tasks.map(|task| match Self::parse(task)? {
                    Self::One(mut one) => {
                        one.options.extend(options.clone());
                        one.check().map(Self::One)
                    }
                    Self::Chain(mut chain) => {
                        chain.first.options.extend(options.clone());
                        chain.first = chain.first.check()?;
                        Ok(Self::Chain(chain))
                    }
                    Self::Group { .. } => Err("groups within groups are not supported".to_owned()),
                });
                let calls = calls.collect::<Result<_, _>>()?;
                Ok(Self::Group { id, calls })
            }
            Some(other) => Err(format!("{other} is not supported as a callback")),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) | Self::Chain(_) => 1,
            Self::Group { calls, .. } => calls.len(),
        }
    }
}

impl Chain {
    fn parse(signature: &mut Signature) -> Result<Call, String> {
        let mut options = std::mem::take(&mut signature.options);
        let mut flat = Vec::new();
        for task in list(signature.tasks()) {
            if task["subtask_type"] == "chain" {
                flat.extend(list(&task["kwargs"]["tasks"]).iter().cloned());
            } else {
                flat.push(task.clone());
            }
        }
        // What is linked to a chain is linked to its last task, and its errors to each.
        let linked = options.remove("link");
        let errors = options.remove("link_error");
        let id = options.remove("task_id").as_ref().and_then(text);
        if let Some(last) = flat.last_mut() {
            extend(last, "link", linked.as_ref());
        }
        for task in &mut flat {
            extend(task, "link_error", errors.as_ref());
        }
        let mut flat = flat.into_iter();
        let Some(first) = flat.next() else {
            return Err("a chain of nothing is not supported".to_owned());
        };
        let rest: Vec<Value> = flat.collect();
        for (index, task) in rest.iter().enumerate() {
            match task["subtask_type"].as_str() {
                None => {}
                Some("group") if index + 1 == rest.len() => {}
                Some(other) => return Err(format!("a {other} in a chain is not supported")),
            }
        }
        match Call::parse(&first)? {
            Call::One(mut first) => {
                first.options.extend(options);
                let first = first.check()?;
                Ok(Call::Chain(Self { first, rest, id }))
            }
            group @ Call::Group { .. } if rest.is_empty() => Ok(group),
            _ => Err("a chain that begins with a group is not supported".to_owned()),
        }
    }
}

impl Signature {
    fn parse(value: &Value) -> Result<Self, String> {
        let read = serde_json::from_value(value.clone());
        read.map_err(|error| format!("a callback is no signature: {error}"))
    }

    /// What a chain or a group is made of.
    fn tasks(&self) -> &Value {
        self.kwargs.get("tasks").unwrap_or(&Value::Null)
    }

    /// Whether it can be sent as it wants to be.
    fn check(self) -> Result<Self, String> {
        let option = |name: &str| self.options.get(name).filter(|value| !is_none(value));
        if option("chord").is_some() {
            return Err("chords are not supported".to_owned());
        }
        if option("exchange").is_some() {
            let task = &self.task;
            return Err(format!("{task} wants an exchange: give it a queue"));
        }
        if option("queue").is_some_and(|queue| !queue.is_string()) {
            return Err(format!("{} wants a queue that is no name", self.task));
        }
        if option("serializer").is_some_and(|name| name != "json") {
            return Err(format!("{} wants another serializer than JSON", self.task));
        }
        Ok(self)
    }
}

/// Appends to an option of a signature that is a list.
fn extend(signature: &mut Value, name: &str, with: Option<&Value>) {
    let more = with.map(list).unwrap_or_default();
    if more.is_empty() {
        return;
    }
    let all = list(&signature["options"][name])
        .iter()
        .chain(more)
        .cloned();
    let all = Value::Array(all.collect());
    if let Some(options) = signature.get_mut("options").and_then(Value::as_object_mut) {
        options.insert(name.to_owned(), all);
    }
}

/// What may be a list, or a single one of its elements, or nothing.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        Value::Object(one) if !one.is_empty() => std::slice::from_ref(value),
        _ => &[],
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// What Python takes for nothing.
fn is_none(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
