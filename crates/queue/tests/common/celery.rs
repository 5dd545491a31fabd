//! A program written for Celery, as far as monitors go: it hears events and sends commands.

use super::{DEADLINE, Redis, names};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_queue::keys;
use redis::{Commands, Connection, PubSub, cmd};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Opens Kombu's envelope: the body, and the whole.
fn open(raw: &[u8]) -> (Value, Value) {
    let message: Value = serde_json::from_slice(raw).unwrap();
    assert_eq!(message["content-type"], "application/json");
    assert_eq!(message["content-encoding"], "utf-8");
    assert_eq!(message["properties"]["body_encoding"], "base64");
    let body = BASE64.decode(message["body"].as_str().unwrap()).unwrap();
    (serde_json::from_slice(&body).unwrap(), message)
}

/// All events since it began to listen.
pub struct Monitor(Arc<Mutex<Vec<Value>>>);

impl Monitor {
    pub fn start(redis: &Redis) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&events);
        let mut connection = redis.connection();
        let (ready, begun) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut pubsub: PubSub<'_> = connection.as_pubsub();
            pubsub.psubscribe("/0.celeryev/*").unwrap();
            ready.send(()).unwrap();
            // Until Redis goes.
            while let Ok(message) = pubsub.get_message() {
                let (body, message_) = open(message.get_payload_bytes());
                let channel = message.get_channel_name();
                let key = &message_["properties"]["delivery_info"]["routing_key"];
                assert_eq!(channel, format!("/0.celeryev/{}", key.as_str().unwrap()));
                let news = match body {
                    Value::Array(many) => {
                        assert_eq!(key, "task.multi");
                        many
                    }
                    one => {
                        let kind = one["type"].as_str().unwrap().replace('-', ".");
                        assert_eq!(*key, kind);
                        vec![one]
                    }
                };
                for event in &news {
                    assert_eq!(event["hostname"], message_["headers"]["hostname"]);
                }
                into.lock().unwrap().extend(news);
            }
        });
        begun.recv().unwrap();
        Self(events)
    }

    pub fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// The kinds of a task's events, in order.
    pub fn kinds(&self, task_id: &str) -> Vec<String> {
        let all = self.all();
        let of_task = all.iter().filter(|event| event["uuid"] == task_id);
        of_task
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The last event of this kind.
    pub fn last(&self, kind: &str) -> Option<Value> {
        self.all()
            .into_iter()
            .rev()
            .find(|event| event["type"] == kind)
    }
}

/// Sends commands and gets replies, as `celery inspect` does.
pub struct Remote {
    connection: Connection,
    oid: String,
}

impl Remote {
    pub fn new(redis: &Redis) -> Self {
        let oid = Uuid::new_v4().to_string();
        let mut connection = redis.connection();
        let binding = [&oid, "", &format!("{oid}.reply.celery.pidbox")].join(keys::SEPARATOR);
        let bindings = names().celery_bindings("reply.celery.pidbox");
        let _: i64 = connection.sadd(bindings, binding).unwrap();
        Self { connection, oid }
    }

    /// Sends a command to those workers, or to all; says how many may have heard it.
    pub fn send(&mut self, method: &str, arguments: Value, fields: Value) -> i64 {
        let mut letter = json!({
            "method": method,
            "arguments": arguments,
            "destination": null,
            "pattern": null,
            "matcher": null,
        });
        letter
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let message = json!({
            "body": BASE64.encode(letter.to_string()),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 100, "expires": 1.0},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": Uuid::new_v4().to_string(),
            },
        });
        self.connection
            .publish(names().celery_control(), message.to_string())
            .unwrap()
    }

    /// Sends a command once somebody listens, and gives the first reply: by whom, and what.
    pub fn ask(&mut self, method: &str, arguments: Value) -> (String, Value) {
        let ticket = Uuid::new_v4().to_string();
        let to = json!({"exchange": "reply.celery.pidbox", "routing_key": self.oid});
        let fields = json!({"ticket": ticket, "reply_to": to});
        let begun = Instant::now();
        while self.send(method, arguments.clone(), fields.clone()) == 0 {
            assert!(begun.elapsed() < DEADLINE, "nobody listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        loop {
            let (message, ttl) = self.reply().expect("a reply");
            assert!(ttl > 0, "a reply that nobody takes goes");
            let (body, message) = open(message.as_bytes());
            if message["headers"]["ticket"] != *ticket {
                continue;
            }
            assert!(message["headers"]["clock"].as_u64().unwrap() > 100);
            let (name, reply) = body.as_object().unwrap().iter().next().unwrap();
            return (name.clone(), reply.clone());
        }
    }

    /// The reply of the only worker.
    pub fn call(&mut self, method: &str, arguments: Value) -> Value {
        self.ask(method, arguments).1
    }

    /// The next reply, and for how long its list would have lived.
    fn reply(&mut self) -> Option<(String, i64)> {
        let list = format!("{}.reply.celery.pidbox", self.oid);
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let (ttl, message): (i64, Option<String>) = redis::pipe()
                .atomic()
                .pttl(&list)
                .rpop(&list, None)
                .query(&mut self.connection)
                .unwrap();
            if let Some(message) = message {
                return Some((message, ttl));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Publishes anything on the channel of commands.
    pub fn say(&mut self, raw: &[u8]) {
        let mut publish = cmd("PUBLISH");
        publish.arg(names().celery_control()).arg(raw);
        publish.exec(&mut self.connection).unwrap();
    }
}
