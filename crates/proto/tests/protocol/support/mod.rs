//! What the tests share.

pub(crate) mod fixtures;
pub(crate) mod pieces;
pub(crate) mod schema;
pub(crate) mod strategies;

use ciborium::Value;
use imgsys_proto::{ClientMessage, PREFIX_LEN, Prefix, ServerMessage, encode};
use serde::{Serialize, de::DeserializeOwned};

/// A message of one of the two directions.
pub(crate) trait Message:
    Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone
{
    /// The direction's name: who says it.
    const SIDE: &'static str;
}

impl Message for ClientMessage {
    const SIDE: &'static str = "client";
}

impl Message for ServerMessage {
    const SIDE: &'static str = "server";
}

/// The names of all messages of a direction, from the code itself: serde lists them when it meets
/// one that it does not know.
pub(crate) fn names<M: Message>() -> Vec<String> {
    let mut bytes = Vec::new();
    let nobody = Value::Map(vec![("nobody".into(), Value::Null)]);
    ciborium::into_writer(&nobody, &mut bytes).unwrap();
    let error = ciborium::from_reader::<M, _>(&bytes[..]).unwrap_err();
    let text = error.to_string();
    let quoted: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    assert_eq!(quoted[0], "nobody", "{text}");
    let mut names: Vec<_> = quoted[1..].iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// The message's name, as its head says it.
pub(crate) fn name_of<M: Message>(message: &M) -> String {
    match Value::serialized(message).unwrap() {
        Value::Map(pairs) => pairs[0].0.as_text().unwrap().to_owned(),
        other => panic!("not a map: {other:?}"),
    }
}

/// The frame's bytes, body included.
pub(crate) fn frame<M: Message>(message: &M, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, body.len() as u64, &mut bytes).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

/// The message's head.
pub(crate) fn head<M: Message>(message: &M) -> Vec<u8> {
    frame(message, &[])[PREFIX_LEN..].to_vec()
}

/// The bytes of a head that says this.
pub(crate) fn head_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// A frame's parts: its lengths, its head, its body.
pub(crate) fn parts(frame: &[u8]) -> (Prefix, &[u8], &[u8]) {
    let (lengths, rest) = frame.split_first_chunk::<PREFIX_LEN>().unwrap();
    let prefix = Prefix::parse(*lengths).unwrap();
    let (head, body) = rest.split_at(prefix.head);
    assert_eq!(body.len(), prefix.body as usize);
    (prefix, head, body)
}
