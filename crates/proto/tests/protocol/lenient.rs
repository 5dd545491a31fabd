//! What a reader takes although no writer of version 1 writes it.

use crate::{
    grammar::{at, places, taken, told},
    support::{Message, fixtures, fixtures::Fixture, head_of, schema},
};
use ciborium::{Value, cbor};
use imgsys_proto::{ClientMessage, ServerMessage, decode};

/// The grammar is closed, so that a key which the code writes must be in it. Readers are not.
#[test]
fn unknown_keys_are_passed_over_by_readers_only() {
    fn check<M: Message>(fixtures: Vec<Fixture<M>>) {
        for Fixture { message, .. } in fixtures {
            let value = Value::serialized(&message).unwrap();
            for place in [vec![]].into_iter().chain(places(&value)) {
                let mut more = value.clone();
                let Value::Map(pairs) = at(&mut more, &place) else {
                    continue;
                };
                // One key a message and an outcome; all keys are somebody's in `extra`.
                let open = told(&value, &place).rsplit('.').next() != Some("extra");
                if pairs.len() == 1 && pairs[0].1.is_map() || !open {
                    continue;
                }
                let nested = cbor!({ "a" => [1, { "b" => null }] }).unwrap();
                pairs.insert(0, ("from_the_future".into(), nested));
                pairs.push(("zukünftig".into(), Value::Tag(0, Box::new("soon".into()))));
                let head = head_of(&more);
                assert_eq!(decode::<M>(&head).unwrap(), message);
                assert!(schema::validate::<M>(&head).is_err());
            }
        }
    }
    check(fixtures::client());
    check(fixtures::server());
}

#[test]
fn integers_do_for_floats_where_a_client_writes_them() {
    let message = cbor!({ "history" => {
        "req" => 1, "limit" => 1, "filter" => { "min_confidence" => 50 },
    }})
    .unwrap();
    assert!(taken::<ClientMessage>(&message, "min_confidence = 50"));
    let ClientMessage::History(history) = decode(&head_of(&message)).unwrap() else {
        panic!("not a history");
    };
    assert_eq!(history.filter.min_confidence, Some(50.0));
}

/// Libraries write a UUID with tag 37 of its own accord; the tag may stay.
#[test]
fn tags_are_passed_over() {
    let id = Value::Tag(37, Box::new(Value::Bytes(vec![7; 16])));
    let show = |id: Value| head_of(&cbor!({ "show" => { "req" => 1, "job" => id } }).unwrap());
    let tagged = decode::<ClientMessage>(&show(id)).unwrap();
    assert_eq!(tagged, decode(&show(Value::Bytes(vec![7; 16]))).unwrap());
}

/// Everything that may be left out, left out.
#[test]
fn defaults_are_what_the_document_says() {
    let bytes = |len| Value::Bytes(vec![7; len]);
    let submit = cbor!({ "submit" => {
        "req" => 1, "job" => bytes(16), "name" => "", "size" => 1, "sha256" => bytes(32),
    }})
    .unwrap();
    let ClientMessage::Submit(submit) = decode(&head_of(&submit)).unwrap() else {
        panic!("not a submit");
    };
    assert_eq!((submit.priority.get(), submit.watch), (5, true));
    let hello = decode(&head_of(&cbor!({ "hello" => { "version" => 1 } }).unwrap()));
    let ClientMessage::Hello(hello) = hello.unwrap() else {
        panic!("not a hello");
    };
    assert_eq!((hello.program.as_str(), hello.token.as_deref()), ("", None));
    let page = cbor!({ "page" => { "req" => 1, "jobs" => [] } }).unwrap();
    let ServerMessage::Page(page) = decode(&head_of(&page)).unwrap() else {
        panic!("not a page");
    };
    assert_eq!((page.next, page.partial), (None, false));
    // Null is no different from nothing.
    let null = cbor!({ "hello" => { "version" => 1, "token" => null } }).unwrap();
    assert!(taken::<ClientMessage>(&null, "token = null"));
    let null = decode::<ClientMessage>(&head_of(&null)).unwrap();
    assert_eq!(null, ClientMessage::Hello(hello));
}
