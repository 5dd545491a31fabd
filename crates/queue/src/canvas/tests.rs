#![allow(
    clippy::needless_pass_by_value,
    reason = "tests are written down, not computed"
)]

use super::*;
use serde_json::json;

fn signature(task: &str, options: Value) -> Value {
    json!({"task": task, "args": [1], "kwargs": {}, "options": options,
        "subtask_type": null, "immutable": false})
}

fn made_of(kind: &str, tasks: Vec<Value>) -> Value {
    json!({"task": format!("celery.{kind}"), "args": [], "kwargs": {"tasks": tasks},
        "options": {}, "subtask_type": kind, "immutable": false})
}

fn embed(name: &str, value: Value) -> Value {
    let mut embed = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
    embed[name] = value;
    embed
}

fn refused(embed: &Value) -> String {
    Canvas::parse(embed).unwrap_err()
}

const PARENT: Parent<'_> = Parent {
    id: "parent",
    root: "root",
};

#[test]
fn nothing_to_be_done_is_nothing() {
    for nothing in [json!(null), json!([]), json!({})] {
        for name in ["callbacks", "errbacks", "chain", "chord"] {
            let canvas = Canvas::parse(&embed(name, nothing.clone())).unwrap();
            assert!(canvas.is_none(), "{name}: {nothing}");
        }
    }
    assert!(Canvas::parse(&json!(null)).unwrap().is_none());
}

#[test]
fn what_can_not_be_carried_on_is_refused() {
    let chord = made_of("chord", vec![]);
    let in_chord = signature("t", json!({"chord": {"task": "body"}}));
    for (embed, told) in [
        (embed("chord", signature("t", json!({}))), "chords"),
        (embed("callbacks", json!([chord])), "chord"),
        (embed("callbacks", json!([in_chord])), "chords"),
        (
            embed("chain", json!([chord, signature("t", json!({}))])),
            "chords",
        ),
        (embed("chain", json!([in_chord])), "chords"),
        (
            embed("callbacks", json!([made_of("xmap", vec![])])),
            "xmap is not supported",
        ),
        (embed("callbacks", json!(["t"])), "no signature"),
        (embed("errbacks", json!([{"args": []}])), "no signature"),
        (
            embed(
                "callbacks",
                json!([signature("t", json!({"exchange": "x"}))]),
            ),
            "t wants an exchange",
        ),
        (
            embed(
                "callbacks",
                json!([signature("t", json!({"queue": {"name": "x"}}))]),
            ),
            "t wants a queue",
        ),
        (
            embed(
                "callbacks",
                json!([signature("t", json!({"serializer": "pickle"}))]),
            ),
            "another serializer",
        ),
        (
            embed(
                "callbacks",
                json!(vec![signature("t", json!({})); MAX_CALLS + 1]),
            ),
            "more than",
        ),
        (
            embed("callbacks", json!([made_of("chain", vec![])])),
            "a chain of nothing",
        ),
        (
            embed(
                "callbacks",
                json!([made_of("group", vec![made_of("group", vec![])])]),
            ),
            "groups within groups",
        ),
    ] {
        let detail = refused(&embed);
        assert!(detail.contains(told), "{detail:?} does not say {told:?}");
    }
}

/// The messages, read again.
fn messages(followed: &Followed) -> Vec<Value> {
    let read = |sent: &Sent| {
        use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
        let mut message: Value = serde_json::from_str(&sent.message).unwrap();
        let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
        message["body"] = serde_json::from_slice(&body).unwrap();
        message
    };
    followed.sent.iter().map(read).collect()
}

#[test]
fn callback_gets_the_result_before_its_own_arguments() {
    let link = signature("t", json!({"queue": "q", "priority": 7, "time_limit": 2.5}));
    let canvas = Canvas::parse(&embed("callbacks", json!([link])))
        .unwrap()
        .unwrap();
    let followed = canvas.succeeded(PARENT, &json!({"x": 1}));
    assert_eq!(followed.sent[0].queue, "q");
    assert_eq!(followed.sent[0].level, 7);
    let message = &messages(&followed)[0];
    assert_eq!(message["body"][0], json!([{"x": 1}, 1]));
    let headers = &message["headers"];
    assert_eq!(headers["root_id"], "root");
    assert_eq!(headers["parent_id"], "parent");
    assert_eq!(headers["argsrepr"], "({'x': 1}, 1)");
    assert_eq!(headers["timelimit"], json!([2.5, null]));
    assert_eq!(followed.children, [json!([[headers["id"], null], null])]);
    assert!(canvas.failed(PARENT, true).sent.is_empty());
}

#[test]
fn immutable_callback_gets_nothing_and_goes_to_celerys_queue() {
    let mut link = signature("t", json!({}));
    link["immutable"] = true.into();
    let canvas = Canvas::parse(&embed("callbacks", link)).unwrap().unwrap();
    let followed = canvas.succeeded(PARENT, &json!(1));
    assert_eq!(followed.sent[0].queue, "celery");
    assert_eq!(messages(&followed)[0]["body"][0], json!([1]));
}

#[test]
fn errbacks_get_the_id_unless_the_task_was_not_run() {
    let canvas = embed("errbacks", json!([signature("t", json!({}))]));
    let canvas = Canvas::parse(&canvas).unwrap().unwrap();
    let followed = canvas.failed(PARENT, true);
    assert_eq!(messages(&followed)[0]["body"][0], json!(["parent", 1]));
    assert!(canvas.failed(PARENT, false).sent.is_empty());
    assert!(canvas.succeeded(PARENT, &json!(1)).sent.is_empty());
}

#[test]
fn chain_goes_on_with_the_last_of_the_list() {
    let chain = json!([
        signature("third", json!({"task_id": "3"})),
        signature("second", json!({"task_id": "2"})),
    ]);
    let canvas = Canvas::parse(&embed("chain", chain.clone()))
        .unwrap()
        .unwrap();
    let followed = canvas.succeeded(PARENT, &json!(1));
    let messages = messages(&followed);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["headers"]["task"], "second");
    assert_eq!(messages[0]["headers"]["id"], "2");
    assert_eq!(messages[0]["body"][2]["chain"], json!([chain[0]]));
    let mut failed = canvas.failed(PARENT, true).failed;
    failed.sort();
    assert_eq!(failed, ["2", "3"]);
}

#[test]
fn several_callbacks_are_a_group() {
    let links = json!([
        signature("a", json!({})),
        made_of(
            "chain",
            vec![signature("b", json!({})), signature("c", json!({}))]
        ),
        made_of(
            "group",
            vec![signature("d", json!({})), signature("e", json!({}))]
        ),
    ]);
    let canvas = Canvas::parse(&embed("callbacks", links)).unwrap().unwrap();
    let followed = canvas.succeeded(PARENT, &json!(1));
    let messages = messages(&followed);
    let place = |task: &str| {
        let message = messages
            .iter()
            .find(|message| message["headers"]["task"] == task);
        let headers = &message.unwrap()["headers"];
        (headers["group"].clone(), headers["group_index"].clone())
    };
    let ((d, first), (e, second)) = (place("d"), place("e"));
    assert_eq!((&d, first, second), (&e, json!(0), json!(1)));
    assert_eq!(place("a").1, json!(0));
    assert_ne!(place("a").0, d);
    // Of a chain it is the last one that belongs to the group.
    assert_eq!(place("b"), (json!(null), json!(null)));
    let b = messages
        .iter()
        .find(|message| message["headers"]["task"] == "b");
    let c = &b.unwrap()["body"][2]["chain"][0];
    assert_eq!(c["task"], "c");
    assert_eq!(c["options"]["group_id"], place("a").0);
    assert_eq!(c["options"]["group_index"], 1);
    assert_eq!(followed.children.len(), 2);
}
