//! Redis's answers that hold entries.

use super::{BadEvent, DATA, EVENT, Entry, TOLD, decode};
use redis::Value;
use tracing::warn;

/// The entries of XREADGROUP's answer for one stream; nil if there are none.
pub(super) fn read_reply(reply: Value) -> Vec<Entry> {
    let last = |value| match value {
        Value::Array(mut parts) => parts.pop(),
        _ => None,
    };
    // [[stream, entries]]
    last(reply).and_then(last).map(entries).unwrap_or_default()
}

/// The entries of XAUTOCLAIM's answer, and where to go on, unless all has been looked at.
pub(super) fn claim_reply(reply: Value) -> Option<(Vec<Entry>, Option<String>)> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let mut parts = parts.into_iter();
    let next = text(parts.next()?)?;
    Some((
        entries(parts.next()?),
        Some(next).filter(|next| next != "0-0"),
    ))
}

fn entries(value: Value) -> Vec<Entry> {
    match value {
        Value::Array(entries) => entries.into_iter().filter_map(entry).collect(),
        _ => Vec::new(),
    }
}

/// An entry: its id and its fields, or nothing in their place
/// if it has been deleted from the stream.
fn entry(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    let id = parts.next().and_then(text)?;
    let Some(Value::Array(fields)) = parts.next() else {
        warn!("event {id} was deleted before it was written");
        let event = Err(BadEvent::new("deleted from the stream", b""));
        let told = false;
        return Some(Entry { id, event, told });
    };
    let (mut kind, mut data, mut told) = (None, None, false);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(Value::BulkString(value))) = (fields.next(), fields.next()) {
        match text(name).as_deref() {
            Some(EVENT) => kind = Some(value),
            Some(DATA) => data = Some(value),
            Some(TOLD) => told = value == b"1",
            _ => {}
        }
    }
    let event = match (kind, data) {
        (Some(kind), Some(data)) => decode(&kind, &data),
        (_, data) => Err(BadEvent::new(
            "an event has the fields `event` and `data`",
            &data.unwrap_or_default(),
        )),
    };
    Some(Entry { id, event, told })
}

pub(super) fn text(value: Value) -> Option<String> {
    redis::from_redis_value(value).ok()
}
