//! The ordinary way of reading gives what the general one does, or nothing.

use super::{ordinary, read_general};
use crate::{Task, keys};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_types::{Checksum, Job, arbitrary, clean_name};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

fn task() -> impl Strategy<Value = Task> {
    let parts = (
        arbitrary::job(),
        0..3_u32,
        arbitrary::timestamp(),
        "\\PC*|file:///[a-z'\"\\\\]*",
        any::<Option<[u8; 16]>>(),
    );
    parts.prop_map(|(job, run, at, image_url, checksum)| Task {
        accepted_at: if run == 0 { job.submitted_at } else { at },
        job: Job {
            name: clean_name(&job.name),
            ..job
        },
        run,
        image_url,
        checksum: checksum.map(Checksum::from_bytes),
    })
}

fn decoded(message: &str) -> Value {
    let mut message: Value = serde_json::from_str(message).unwrap();
    let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
    message["body"] = serde_json::from_slice(&body).unwrap();
    message
}

fn encoded(mut message: Value) -> String {
    let body = message["body"].to_string();
    message["body"] = BASE64.encode(body).into();
    message.to_string()
}

/// Where something is in a message whose body is decoded.
const PLACES: &[&str] = &[
    "/content-type",
    "/content-encoding",
    "/headers",
    "/headers/id",
    "/headers/task",
    "/headers/eta",
    "/headers/expires",
    "/headers/retries",
    "/headers/timelimit",
    "/headers/redelivered",
    "/headers/root_id",
    "/headers/parent_id",
    "/headers/group",
    "/headers/ignore_result",
    "/headers/stamps",
    "/headers/origin",
    "/headers/another",
    "/properties",
    "/properties/body_encoding",
    "/properties/priority",
    "/properties/delivery_info",
    "/properties/delivery_info/redelivered",
    "/properties/delivery_tag",
    "/body/0",
    "/body/1",
    "/body/2",
    "/body/2/callbacks",
    "/body/2/chord",
    "/body/2/chain",
    "/body/1/job",
    "/body/1/sha256",
    "/body/1/size",
    "/body/1/image_url",
    "/body/1/run",
    "/body/1/owner",
    "/body/1/server",
    "/body/1/name",
    "/body/1/priority",
    "/body/1/accepted_at",
    "/body/1/another",
];

fn value() -> impl Strategy<Value = Value> {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(3),
        json!(-1),
        json!(2.5),
        json!(1e300),
        json!(""),
        json!("text"),
        json!("utf-8"),
        json!("ünïcode \\ \" '"),
        json!("2026-01-02T03:04:05.678+01:00"),
        json!("2026-01-02T03:04:05"),
        json!("imgsys.analyze"),
        json!("0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c"),
        json!("0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c.1"),
        json!([]),
        json!([null, 5]),
        json!([1.5, 2, 3]),
        json!([{"task": "t", "args": [1]}]),
        json!({}),
        json!({"a": 1}),
        json!({"redelivered": true, "exchange": "", "routing_key": "imgsys"}),
    ];
    select(values.to_vec())
}

/// Puts something in the place of what is there.
fn put(message: &mut Value, place: &str, value: Option<Value>) {
    let Some((around, name)) = place.rsplit_once('/') else {
        return;
    };
    match message.pointer_mut(around) {
        Some(Value::Object(members)) => match value {
            Some(value) => drop(members.insert(name.to_owned(), value)),
            None => drop(members.remove(name)),
        },
        Some(Value::Array(_)) => {
            if let (Some(there), Some(value)) = (message.pointer_mut(place), value) {
                *there = value;
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn our_messages_are_ordinary(task in task()) {
        let message = task.message().unwrap();
        let read = ordinary::read(&message).unwrap();
        prop_assert_eq!(read.arguments.job(), task.job.clone());
        prop_assert_eq!(read.arguments.run, task.run);
        prop_assert_eq!(read.arguments.accepted_at(), task.accepted_at);
        prop_assert_eq!(&read.arguments.image_url, &task.image_url);
        prop_assert_eq!(&read.id, &task.id());
        prop_assert_eq!(read.level, task.job.priority.get());
        let general = read_general(&message).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{general:?}"));
    }

    #[test]
    fn what_is_read_is_what_the_general_way_reads(
        task in task(),
        changes in prop::collection::vec((select(PLACES), prop::option::of(value())), 0..3),
    ) {
        let mut message = decoded(&task.message().unwrap());
        for (place, value) in changes {
            put(&mut message, place, value);
        }
        let message = encoded(message);
        if let Some(read) = ordinary::read(&message) {
            let general = read_general(&message).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{general:?}"));
        }
    }
}

#[test]
fn messages_of_python_are_ordinary() {
    let mut message: Value =
        serde_json::from_str(include_str!("../../tests/celery-message.json")).unwrap();
    message["headers"]["task"] = keys::TASK.into();
    message["body"][0] = json!([]);
    message["body"][1] = json!({
        "job": "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c",
        "sha256": "07".repeat(32),
        "size": 1,
        "image_url": "file:///ä",
        "submitted_at": 5,
    });
    assert!(ordinary::read(&encoded(message)).is_some());
}

#[test]
fn numbers_and_texts_that_none_can_read_are_not_passed_over() {
    let message = typical();
    for wrong in [r#""\ud800""#, "1e999", "[[]]", r#"{"a":{}}"#] {
        let message = message.replacen("\"lang\":\"rust\"", &format!("\"lang\":{wrong}"), 1);
        assert!(ordinary::read(&message).is_none(), "{wrong}");
    }
    let twice = message.replacen("\"headers\":{", "\"headers\":{\"id\":\"twice\",", 1);
    assert!(ordinary::read(&twice).is_none());
    assert!(read_general(&twice).is_ok());
    let listed = message.replacen("\"delivery_info\":{", "\"delivery_info\":[],\"other\":{", 1);
    assert!(ordinary::read(&listed).is_none());
}

fn typical() -> String {
    let job = arbitrary::typical().job;
    let task = Task {
        accepted_at: job.submitted_at,
        job,
        run: 0,
        image_url: "file:///images/c4".into(),
        checksum: Some(Checksum::of(b"abc")),
    };
    task.message().unwrap()
}
