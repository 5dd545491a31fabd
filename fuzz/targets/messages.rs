//! The head of a frame, as a message of either side.
#![no_main]

use imgsys_proto::{ClientMessage, ServerMessage, decode, encode};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

fuzz_target!(|head: &[u8]| {
    same_again::<ClientMessage>(head);
    same_again::<ServerMessage>(head);
});

fn same_again<M: Serialize + DeserializeOwned + Debug>(head: &[u8]) {
    let Ok(message) = decode::<M>(head) else {
        return;
    };
    let mut frame = Vec::new();
    if encode(&message, 0, &mut frame).is_ok() {
        let again: M = decode(&frame[8..]).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}
