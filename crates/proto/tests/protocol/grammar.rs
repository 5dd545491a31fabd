//! `imgsys.cddl` and the code refuse the same messages.

use crate::support::{Message, fixtures, fixtures::Fixture, head_of, names, schema};
use ciborium::{Value, cbor};
use imgsys_proto::{ClientMessage, FrameError, ServerMessage, decode};
use imgsys_types::{ErrorCode, FailureReason, JobState};
use std::collections::BTreeSet;

/// The way to a value within a message: indices into its maps and arrays.
type Place = Vec<usize>;

/// All places within a value, but for the value itself.
pub(crate) fn places(value: &Value) -> Vec<Place> {
    let inner: Vec<&Value> = match value {
        Value::Map(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        Value::Array(items) => items.iter().collect(),
        _ => vec![],
    };
    let mut all = Vec::new();
    for (index, value) in inner.into_iter().enumerate() {
        all.push(vec![index]);
        all.extend(
            places(value)
                .into_iter()
                .map(|place| [vec![index], place].concat()),
        );
    }
    all
}

/// The value at a place.
pub(crate) fn at<'a>(value: &'a mut Value, place: &[usize]) -> &'a mut Value {
    let Some((&index, rest)) = place.split_first() else {
        return value;
    };
    match value {
        Value::Map(pairs) => at(&mut pairs[index].1, rest),
        Value::Array(items) => at(&mut items[index], rest),
        other => panic!("nothing within {other:?}"),
    }
}

/// The keys on the way to a place, for people.
pub(crate) fn told(value: &Value, place: &[usize]) -> String {
    let Some((&index, rest)) = place.split_first() else {
        return String::new();
    };
    match value {
        Value::Map(pairs) => {
            let key = pairs[index].0.as_text().unwrap();
            format!(".{key}{}", told(&pairs[index].1, rest))
        }
        Value::Array(items) => format!("[{index}]{}", told(&items[index], rest)),
        other => panic!("nothing within {other:?}"),
    }
}

/// The parent and the last step of a place.
fn parent(place: &[usize]) -> (&[usize], usize) {
    let (&last, parent) = place.split_last().unwrap();
    (parent, last)
}

fn values<M: Message>(fixtures: Vec<Fixture<M>>) -> Vec<Value> {
    let messages = fixtures.into_iter().map(|fixture| fixture.message);
    messages
        .map(|message| Value::serialized(&message).unwrap())
        .collect()
}

/// Whether the code and the grammar take this message: they must agree.
pub(crate) fn taken<M: Message>(value: &Value, what: &str) -> bool {
    let head = head_of(value);
    let decoded = decode::<M>(&head);
    let valid = schema::validate::<M>(&head);
    assert_eq!(
        decoded.is_ok(),
        valid.is_ok(),
        "{what}: the code says {decoded:?}, the grammar {valid:?}"
    );
    decoded.is_ok()
}

/// The keys that may be missing, as `path.to.key`.
const OPTIONAL: &[&str] = &[
    "hello.program",
    "hello.token",
    "submit.priority",
    "submit.watch",
    "history.after",
    "history.filter",
    "history.owner",
    "filter.since",
    "filter.until",
    "filter.label",
    "filter.min_confidence",
    "filter.state",
    "filter.name",
    "filter.analyzer",
    "filter.except_version",
    "filter.except_model",
    "reanalyze.priority",
    "runs.before",
    "runs.more",
    "rejected.job",
    "rejected.retry_after_ms",
    "page.next",
    "page.partial",
    "status.queue",
    "record.result",
    "jobs[0].result",
    "result.worker",
    "results[0].worker",
    "results[1].worker",
    "done.scores",
    "analyzer.model",
    "properties.extra",
    "properties.color_type",
    "properties.bit_depth",
    "properties.frames",
    "similar.of_job",
    "similar.of_image",
    "similar.distance",
    "similar.more",
    "properties.sharpness",
    "properties.exposure",
    "properties.colors",
    "properties.perceptual_hash",
    "properties.thumb_hash",
    "properties.exif",
    "properties.flags",
    "exif.camera",
    "exif.lens",
    "exif.taken_at",
    "exif.exposure_time",
    "exif.f_number",
    "exif.iso",
    "exif.focal_length",
    "exif.gps",
    "gps.altitude",
];

/// Takes each key out of each message.
fn without_each_key<M: Message>(fixtures: Vec<Fixture<M>>) {
    for value in values(fixtures) {
        for place in places(&value) {
            let what = told(&value, &place);
            let (parent, last) = parent(&place);
            let mut less = value.clone();
            match at(&mut less, parent) {
                Value::Map(pairs) => drop(pairs.remove(last)),
                _ => continue,
            }
            let optional = OPTIONAL
                .iter()
                .any(|&path| what.ends_with(&format!(".{path}")))
                || what.contains(".extra.");
            assert_eq!(taken::<M>(&less, &what), optional, "without {what}");
        }
    }
}

#[test]
fn a_missing_key_is_refused_unless_it_is_optional() {
    without_each_key(fixtures::client());
    without_each_key(fixtures::server());
}

/// Puts something of another type in each place of each message.
fn with_a_wrong_type_in_each_place<M: Message>(fixtures: Vec<Fixture<M>>) {
    for value in values(fixtures) {
        for place in places(&value) {
            let what = told(&value, &place);
            let mut wrong = value.clone();
            let there = at(&mut wrong, &place);
            *there = match there {
                Value::Map(_) | Value::Array(_) => Value::Text("wrong".into()),
                _ => Value::Array(vec![Value::Bytes(vec![0])]),
            };
            assert!(!taken::<M>(&wrong, &what), "a wrong type at {what}");
        }
    }
}

#[test]
fn a_wrong_type_is_refused() {
    with_a_wrong_type_in_each_place(fixtures::client());
    with_a_wrong_type_in_each_place(fixtures::server());
}

/// Puts numbers, ids and texts that are out of their bounds in each place of their type.
fn out_of_bounds<M: Message>(fixtures: Vec<Fixture<M>>) -> BTreeSet<bool> {
    let mut verdicts = BTreeSet::new();
    for value in values(fixtures) {
        for place in places(&value) {
            let what = told(&value, &place);
            let mut changed = value.clone();
            let there = at(&mut changed, &place);
            let others: Vec<Value> = match there {
                // The names of files and people may be any text; stable words are tried below.
                Value::Bytes(bytes) => vec![
                    Value::Bytes(bytes[1..].to_vec()),
                    Value::Bytes([&bytes[..], &[0]].concat()),
                    Value::Bytes(vec![]),
                ],
                Value::Integer(_) => {
                    let numbers: [i128; 8] = [
                        -1,
                        0,
                        10,
                        256,
                        1 << 32,
                        i64::MAX.into(),
                        u64::MAX.into(),
                        -(1 << 64),
                    ];
                    let integers = numbers.map(|n| Value::Integer(n.try_into().unwrap()));
                    [&integers[..], &[Value::Float(0.5), Value::Null]].concat()
                }
                Value::Bool(_) => vec![Value::Null, Value::from(0)],
                _ => continue,
            };
            for other in others {
                *at(&mut changed, &place) = other.clone();
                // Null is for the optional keys that have no default of their own.
                verdicts.insert(taken::<M>(&changed, &format!("{what} = {other:?}")));
            }
        }
    }
    verdicts
}

#[test]
fn bounds_are_the_same_in_code_and_grammar() {
    let both = BTreeSet::from([false, true]);
    assert_eq!(out_of_bounds(fixtures::client()), both);
    assert_eq!(out_of_bounds(fixtures::server()), both);
}

/// One head of `rejected`, with this code.
fn rejected(code: &str) -> Value {
    let mut value = values(fixtures::server())
        .into_iter()
        .find(|value| value.as_map().unwrap()[0].0.as_text() == Some("rejected"))
        .unwrap();
    for (key, value) in value.as_map_mut().unwrap()[0].1.as_map_mut().unwrap() {
        if key.as_text() == Some("code") {
            *value = code.into();
        }
    }
    value
}

/// One head of `result`, failed for this reason.
fn failed(reason: &str) -> Value {
    let mut message = fixtures::server()
        .into_iter()
        .find(|fixture| fixture.file == "result-failed")
        .map(|fixture| Value::serialized(&fixture.message).unwrap())
        .unwrap();
    let place = places(&message)
        .into_iter()
        .find(|place| told(&message, place).ends_with(".reason"))
        .unwrap();
    *at(&mut message, &place) = reason.into();
    message
}

#[test]
fn every_code_and_reason_is_in_the_grammar() {
    for code in ErrorCode::ALL {
        assert!(taken::<ServerMessage>(
            &rejected(code.as_str()),
            code.as_str()
        ));
    }
    for reason in FailureReason::ALL {
        assert!(taken::<ServerMessage>(
            &failed(reason.as_str()),
            reason.as_str()
        ));
    }
    // And no others: the grammar says what is written. A reader takes new ones for `other`.
    for message in [rejected("from_the_future"), failed("from_the_future")] {
        let head = head_of(&message);
        assert!(schema::validate::<ServerMessage>(&head).is_err());
        let text = format!("{:?}", decode::<ServerMessage>(&head).unwrap());
        assert!(text.contains("Other"), "{text}");
    }
}

#[test]
fn every_state_is_in_the_grammar() {
    for state in [JobState::Queued, JobState::Done, JobState::Failed] {
        let mut message = cbor!({ "history" => {
            "req" => 1, "limit" => 1, "filter" => { "state" => state.as_str() },
        }})
        .unwrap();
        assert!(taken::<ClientMessage>(&message, state.as_str()));
        let last = places(&message).pop().unwrap();
        *at(&mut message, &last) = "gone".into();
        assert!(!taken::<ClientMessage>(&message, "gone"));
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let ping = cbor!({ "req" => 1 }).unwrap();
    for message in [
        Value::Map(vec![]),
        Value::Map(vec![("ping".into(), Value::Null)]),
        Value::Map(vec![("nobody".into(), ping.clone())]),
        Value::Map(vec![("Ping".into(), ping.clone())]),
        Value::Map(vec![("pong".into(), ping.clone())]),
        Value::Map(vec![(1.into(), ping.clone())]),
        Value::Map(vec![
            ("ping".into(), ping.clone()),
            ("status".into(), ping.clone()),
        ]),
    ] {
        assert!(!taken::<ClientMessage>(&message, &format!("{message:?}")));
        let refused = decode::<ClientMessage>(&head_of(&message));
        assert!(
            matches!(refused, Err(FrameError::NoMessage(_))),
            "{refused:?}"
        );
    }
}

/// cddl takes a rule that does not exist for one that nothing matches, and so would we not see
/// that a choice is dead: every name in the grammar must be defined, used and not be a key too.
#[test]
fn every_rule_is_defined_and_used() {
    let code: String = schema::TEXT
        .lines()
        .map(|line| line.split(';').next().unwrap().to_owned() + "\n")
        .collect();
    let mut texts = code.split('"');
    let plain: String = texts.by_ref().step_by(2).collect::<Vec<_>>().join(" ");
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
            .map(ToOwned::to_owned)
            .collect()
    };
    let left = |line: &str| line.split_once('=').map(|(left, _)| left.to_owned());
    let defined: BTreeSet<_> = plain
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(left)
        .flat_map(|left| words(&left))
        .collect();
    let used = words(
        &plain
            .lines()
            .map(|l| l.split_once('=').map_or(l, |(_, r)| r))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let roots = BTreeSet::from(["ClientMessage".to_owned(), "ServerMessage".to_owned()]);
    assert_eq!(&used | &roots, defined);
    for name in names::<ClientMessage>()
        .into_iter()
        .chain(names::<ServerMessage>())
    {
        assert!(
            schema::TEXT.contains(&format!("Message<\"{name}\",")),
            "{name}"
        );
    }
}
