//! docs/protocol.md is held to the code: its tables of keys, its lists of codes, its examples.

use crate::{
    grammar::{at, places, told},
    support::{Message, fixtures, frame, head_of, names, parts, schema},
};
use ciborium::Value;
use imgsys_proto::{ClientMessage, MAX_DEPTH, MAX_HEAD, ServerMessage, decode};
use imgsys_types::{ErrorCode, FailureReason, Limits, MAX_NAME};
use std::collections::BTreeMap;

const TEXT: &str = include_str!("../../../../docs/protocol.md");

/// The text below a heading, up to the next one of its rank or a higher one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let rank = heading.chars().take_while(|&c| c == '#').count();
    let start = format!("\n{heading}\n");
    let begin = text
        .find(&start)
        .unwrap_or_else(|| panic!("no {heading:?}"))
        + start.len();
    let rest = &text[begin..];
    let ends = (1..=rank).filter_map(|rank| rest.find(&format!("\n{} ", "#".repeat(rank))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The rows of the tables in a text whose first cell is a word in back-ticks: the word and the
/// cells behind it.
fn rows(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let Some(line) = line.strip_prefix("| `") else {
            continue;
        };
        let (word, rest) = line.split_once('`').unwrap();
        let cells = rest
            .trim_matches(['|', ' '])
            .split(" | ")
            .map(str::trim)
            .collect();
        assert!(rows.insert(word, cells).is_none(), "{word} is there twice");
    }
    rows
}

fn is_yes(cell: &str) -> bool {
    match cell {
        "yes" => true,
        "no" => false,
        other => panic!("{other:?} is neither yes nor no"),
    }
}

/// Whether the document's word for a type fits a value.
fn fits(kind: &str, value: &Value) -> bool {
    match kind.split([' ', ',', ':']).next().unwrap() {
        "uint" | "int" => value.is_integer(),
        "float" => value.is_float(),
        "bool" => value.is_bool(),
        "text" => value.is_text(),
        "bytes" => {
            let len = value.as_bytes().map_or(0, Vec::len);
            kind.split(',').next() == Some(&format!("bytes {len}"))
        }
        "array" => value.is_array(),
        "map" => value.is_map(),
        other => panic!("{other:?} is no type"),
    }
}

/// Holds a table to the map at a place of a message that has every key: the same keys, of these
/// types, and required if the message can't be read without them.
fn hold<M: Message>(table: &str, what: &str, message: &Value, place: &[usize]) {
    let mut rows = rows(table);
    let mut whole = message.clone();
    let Value::Map(pairs) = at(&mut whole, place).clone() else {
        panic!("{what} is no map");
    };
    for (index, (key, value)) in pairs.iter().enumerate() {
        let key = key.as_text().unwrap();
        let Some(cells) = rows.remove(key) else {
            panic!("{what}.{key} is not in the document");
        };
        assert!(fits(cells[0], value), "{what}.{key} is no {}", cells[0]);
        let mut less = message.clone();
        at(&mut less, place).as_map_mut().unwrap().remove(index);
        let required = decode::<M>(&head_of(&less)).is_err();
        assert_eq!(
            is_yes(cells[1]),
            required,
            "whether {what}.{key} is required"
        );
    }
    assert!(rows.is_empty(), "{what} has no {:?}", rows.keys());
}

/// A message with every key, by the name of its golden frame.
fn fixture(file: &str) -> Value {
    let client = fixtures::client().into_iter();
    let client = client.map(|f| (f.file, Value::serialized(&f.message).unwrap()));
    let server = fixtures::server().into_iter();
    let mut server = server.map(|f| (f.file, Value::serialized(&f.message).unwrap()));
    let found = server.find(|(name, _)| *name == file);
    found
        .or_else(|| client.into_iter().find(|(name, _)| *name == file))
        .unwrap()
        .1
}

fn hold_messages<M: Message>(part: &str, fixtures: &[fixtures::Fixture<M>]) {
    let part = section(TEXT, part);
    for name in names::<M>() {
        let table = section(part, &format!("### `{name}`"));
        let fixture = fixtures
            .iter()
            .find(|fixture| fixture.file == name)
            .unwrap();
        let message = Value::serialized(&fixture.message).unwrap();
        hold::<M>(table, &name, &message, &[0]);
    }
}

#[test]
fn every_message_has_its_table() {
    hold_messages("## Messages from the client", &fixtures::client());
    hold_messages("## Messages from the server", &fixtures::server());
}

#[test]
fn every_shape_has_its_table() {
    let part = section(TEXT, "## Shapes");
    for (shape, file, path) in [
        ("Limits", "welcome", ".welcome.limits"),
        ("Cursor", "page", ".page.next"),
        ("QueueStatus", "status", ".status.queue"),
        ("JobRecord", "job", ".job.record"),
        ("Job", "job", ".job.record.job"),
        ("JobResult", "result", ".result.result"),
        ("Analysis", "result", ".result.result.outcome.done"),
        ("Analyzer", "result", ".result.result.outcome.done.analyzer"),
        ("Score", "result", ".result.result.outcome.done.scores[0]"),
        (
            "Properties",
            "result",
            ".result.result.outcome.done.properties",
        ),
        (
            "Exposure",
            "result",
            ".result.result.outcome.done.properties.exposure",
        ),
        (
            "Color",
            "result",
            ".result.result.outcome.done.properties.colors[0]",
        ),
        (
            "Exif",
            "result",
            ".result.result.outcome.done.properties.exif",
        ),
        (
            "Gps",
            "result",
            ".result.result.outcome.done.properties.exif.gps",
        ),
        ("Failure", "result-failed", ".result.result.outcome.failed"),
        ("RefusedRun", "reanalyzing", ".reanalyzing.refused[0]"),
    ] {
        let message = fixture(file);
        let mut all = places(&message).into_iter();
        let place = all.find(|place| told(&message, place) == path).unwrap();
        hold::<ServerMessage>(
            section(part, &format!("### `{shape}`")),
            shape,
            &message,
            &place,
        );
    }
    for (shape, file, path) in [
        ("HistoryFilter", "history", ".history.filter"),
        ("RunOf", "reanalyze", ".reanalyze.runs[0]"),
    ] {
        let message = fixture(file);
        let mut all = places(&message).into_iter();
        let place = all.find(|place| told(&message, place) == path).unwrap();
        let table = section(part, &format!("### `{shape}`"));
        hold::<ClientMessage>(table, shape, &message, &place);
    }
}

#[test]
fn every_code_is_explained() {
    let mut rows = rows(section(TEXT, "## Error codes"));
    for code in ErrorCode::ALL {
        let Some(cells) = rows.remove(code.as_str()) else {
            panic!("{code} is not in the document");
        };
        let transient = is_yes(cells[1]);
        assert_eq!(
            transient,
            code.is_transient(),
            "whether {code} is transient"
        );
    }
    assert!(rows.is_empty(), "there is no {:?}", rows.keys());
}

#[test]
fn every_reason_is_explained() {
    let mut rows = rows(section(TEXT, "## Failure reasons"));
    for reason in FailureReason::ALL {
        assert!(
            rows.remove(reason.as_str()).is_some(),
            "{reason} is not in the document"
        );
    }
    assert!(rows.is_empty(), "there is no {:?}", rows.keys());
}

/// 65536 as `65 536`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[test]
fn limits_are_the_code_s() {
    let limits = Limits::default();
    let rows = rows(section(TEXT, "### `Limits`"));
    for (key, default) in [
        ("max_image", limits.max_image),
        ("max_in_flight", limits.max_in_flight.into()),
        ("max_watched", limits.max_watched.into()),
        ("max_page", limits.max_page.into()),
        ("idle_ms", limits.idle_ms),
    ] {
        let told = format!("default {}", grouped(default));
        assert!(rows[key][2].contains(&told), "{key}: {told}");
    }
    let frame = section(TEXT, "## Frames");
    assert!(frame.contains(&format!("1 to {} bytes", grouped(MAX_HEAD as u64))));
    assert!(frame.contains(&format!("at most {MAX_DEPTH} deep")));
    assert!(TEXT.contains(&format!("{} bytes of UTF-8", grouped(MAX_NAME as u64))));
}

/// The bytes of the document's examples of this side: hexadecimal digits up to a `;`.
fn examples(side: &str) -> Vec<Vec<u8>> {
    let fence = format!("```hex {side}\n");
    let blocks = TEXT.split(&fence).skip(1);
    blocks
        .map(|block| {
            let (block, _) = block.split_once("```").unwrap();
            let digits = block.lines().map(|line| line.split(';').next().unwrap());
            let digits: String = digits.collect();
            hex::decode(digits.split_whitespace().collect::<String>()).unwrap()
        })
        .collect()
}

fn hold_examples<M: Message>() {
    let examples = examples(M::SIDE);
    assert!(examples.len() >= 2);
    for example in examples {
        let (_, head, body) = parts(&example);
        let message = decode::<M>(head).unwrap();
        assert_eq!(hex::encode(frame(&message, body)), hex::encode(&example));
        schema::validate::<M>(head).unwrap();
    }
}

#[test]
fn examples_are_frames() {
    hold_examples::<ClientMessage>();
    hold_examples::<ServerMessage>();
}
