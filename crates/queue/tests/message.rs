//! The message is the one that Python's Celery sends, field by field.

mod common;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{Redis, dispatch, names, task};
use imgsys_queue::keys;
use imgsys_types::{Priority, ServerId};
use redis::Commands;
use serde_json::{Value, json};

/// A message as Python's Celery 5.7 puts it on the queue, its body decoded.
const PYTHON: &str = include_str!("celery-message.json");

/// The same paths, and on each the same type; null may stand for a text.
fn same_shape(path: &str, ours: &Value, python: &Value) {
    match (ours, python) {
        (Value::Object(ours), Value::Object(python)) => {
            let names = |map: &serde_json::Map<String, Value>| {
                map.keys()
                    .cloned()
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(ours), names(python), "{path}");
            for (name, value) in python {
                same_shape(&format!("{path}.{name}"), &ours[name], value);
            }
        }
        (Value::Array(ours), Value::Array(python)) => {
            assert_eq!(ours.len(), python.len(), "{path}");
        }
        (ours, python) => assert_eq!(
            std::mem::discriminant(ours),
            std::mem::discriminant(python),
            "{path}: {ours} is not like {python}"
        ),
    }
}

#[tokio::test]
async fn message_is_what_python_sends() {
    let redis = Redis::start();
    let mut task = task(ServerId::generate(), "file:///images/cat");
    task.job.priority = Priority::new(7).unwrap();
    dispatch(&redis, std::slice::from_ref(&task)).await;

    let list = names().priority_list(keys::QUEUE, 7);
    let message: Vec<String> = redis.connection().lrange(list, 0, -1).unwrap();
    let mut message: Value = serde_json::from_str(&message[0]).unwrap();
    let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut python: Value = serde_json::from_str(PYTHON).unwrap();
    let theirs = python["body"].take();
    message["body"] = Value::Null;
    same_shape("message", &message, &python);
    assert_eq!(body[2], theirs[2], "embed");

    let id = task.job.id.to_string();
    for path in [
        "/headers/id",
        "/headers/root_id",
        "/properties/correlation_id",
    ] {
        assert_eq!(message.pointer(path), Some(&json!(id)), "{path}");
    }
    assert_eq!(message["headers"]["task"], "imgsys.analyze");
    assert_eq!(message["properties"]["priority"], 7);
    assert_eq!(
        message["properties"]["delivery_info"]["routing_key"],
        "imgsys"
    );
    assert_eq!(body[0], json!([]));
    assert_eq!(
        body[1],
        json!({
            "job": id,
            "run": 0,
            "owner": "local",
            "server": task.job.server.to_string(),
            "sha256": "07".repeat(32),
            "name": "it's a cat.jpg",
            "size": 12345,
            "priority": 7,
            "submitted_at": task.job.submitted_at.as_micros(),
            "image_url": "file:///images/cat",
        })
    );
    assert_eq!(message["headers"]["argsrepr"], "()");
    let repr = message["headers"]["kwargsrepr"].as_str().unwrap();
    assert!(repr.starts_with(&format!("{{'job': '{id}', 'sha256': '0707")));
    assert!(repr.contains("'name': \"it's a cat.jpg\", 'priority': 7"));
}
