//! Kombu's envelope around what goes through channels and reply lists.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How Kombu marks messages that need not outlive the broker.
const TRANSIENT: u8 = 1;

/// A message for an exchange, with this JSON as its body.
pub(crate) fn seal(body: &str, headers: &Value, exchange: &str, routing_key: &str) -> String {
    json!({
        "body": BASE64.encode(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_mode": TRANSIENT,
            "delivery_info": {"exchange": exchange, "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": Uuid::new_v4().to_string(),
        },
    })
    .to_string()
}

/// A message that came, as far as it concerns a worker.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) body: Value,
    pub(crate) headers: Map<String, Value>,
}

/// Why a message can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoMessage {
    #[error("reading its JSON")]
    Json(#[from] serde_json::Error),
    #[error("reading its body as base64")]
    Base64(#[from] base64::DecodeError),
    #[error("its content type is {0:?}, not application/json")]
    ContentType(String),
}

#[derive(Deserialize)]
struct Sealed {
    body: String,
    #[serde(rename = "content-type")]
    content_type: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    properties: Map<String, Value>,
}

/// Reads a message.
pub(crate) fn open(raw: &[u8]) -> Result<Opened, NoMessage> {
    let sealed: Sealed = serde_json::from_slice(raw)?;
    if sealed.content_type != "application/json" {
        return Err(NoMessage::ContentType(sealed.content_type));
    }
    let encoding = sealed.properties.get("body_encoding");
    let body = if encoding.and_then(Value::as_str) == Some("base64") {
        BASE64.decode(sealed.body)?
    } else {
        sealed.body.into_bytes()
    };
    Ok(Opened {
        body: serde_json::from_slice(&body)?,
        headers: sealed.headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened() {
        let sealed = seal("[1, 2]", &json!({"clock": 7}), "x", "y");
        let opened = open(sealed.as_bytes()).unwrap();
        assert_eq!(opened.body, json!([1, 2]));
        assert_eq!(opened.headers["clock"], 7);
    }

    #[test]
    fn what_is_no_message_is_told() {
        let pickled = json!({"body": "", "content-type": "application/x-python-serialize"});
        let broken = json!({"body": "!", "content-type": "application/json",
            "properties": {"body_encoding": "base64"}});
        for (raw, told) in [
            ("{".to_owned(), "JSON"),
            (pickled.to_string(), "content type"),
            (broken.to_string(), "base64"),
        ] {
            let error = open(raw.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
