//! `celery inspect` and what concerns monitoring in `celery control`, as they come over the wire.

mod common;

use common::{
    Redis, Worker,
    celery::{Monitor, Remote},
    dispatch, options, task, until,
};
use imgsys_queue::{CeleryEvents, keys};
use imgsys_types::ServerId;
use redis::Commands;
use serde_json::{Value, json};
use std::time::Duration;

const NAME: &str = "one@test";

fn ok(text: &str) -> Value {
    json!({"ok": text})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_answers_for_itself() {
    let redis = Redis::start();
    let one = Worker::start(options(&redis.url(), NAME));
    let two = Worker::start(options(&redis.url(), "two@test"));
    let mut remote = Remote::new(&redis);
    until("both listen", || {
        remote.send("ping", json!({}), json!({})) == 2
    });
    let to_two = json!({"destination": ["two@test"]});
    assert_eq!(remote.ask("ping", json!({})).1, ok("pong"));
    // Nothing is answered that nobody wants answered, and nobody goes who is not meant.
    remote.send("shutdown", json!({}), to_two);
    let drained = tokio::time::timeout(Duration::from_secs(20), two.ended()).await;
    drained.expect("it shuts down");
    assert_eq!(remote.ask("ping", json!({})), (NAME.to_owned(), ok("pong")));
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_says_what_it_holds() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut slow = options(&redis.url(), NAME);
    slow.prefetch = 2;
    slow.drain = Duration::from_millis(100);
    let worker = Worker::start(slow);
    let mut remote = Remote::new(&redis);
    let running = task(server, "sleep:60000");
    let waiting = task(server, "idle:");
    let ids = [&running, &waiting].map(|task| task.job.id.to_string());
    dispatch(&redis, &[running, waiting]).await;
    until("it has both", || worker.seen() == 2);
    let kwargs = json!({"sha256": "07".repeat(32), "size": 1, "image_url": "x"});
    let message = common::python_message("later", &json!([[ids[1]], kwargs, {}]));
    let later = common::changed(&message, "/headers/eta", json!("2999-01-01T00:00:00+00:00"));

    let active = remote.call("active", json!({}));
    assert_eq!(active.as_array().unwrap().len(), 1, "{active}");
    let active = &active[0];
    assert_eq!(
        (&active["id"], &active["name"]),
        (&json!(ids[0]), &json!(keys::TASK))
    );
    assert_eq!(
        (&active["type"], &active["hostname"]),
        (&json!(keys::TASK), &json!(NAME))
    );
    assert_eq!(
        (&active["args"], &active["kwargs"]["job"]),
        (&json!([]), &json!(ids[0]))
    );
    assert_eq!(
        (&active["acknowledged"], &active["worker_pid"]),
        (&json!(false), &json!(std::process::id()))
    );
    assert_eq!(
        active["delivery_info"],
        json!({"exchange": "", "routing_key": "imgsys", "priority": 5, "redelivered": false})
    );
    assert!(active["time_start"].as_f64().unwrap() > 1.6e9);
    let safe = remote.call("dump_active", json!({"safe": true}));
    assert_eq!(safe[0]["args"], "()");
    let reserved = remote.call("reserved", json!({}));
    assert_eq!(
        (&reserved[0]["id"], &reserved[0]["time_start"]),
        (&json!(ids[1]), &Value::Null)
    );
    assert_eq!(remote.call("scheduled", json!({})), json!([]));
    let told = remote.call("query_task", json!({"ids": [ids[0], ids[1], "unknown"]}));
    assert_eq!(told.as_object().unwrap().len(), 2);
    assert_eq!(
        (&told[&ids[0]][0], &told[&ids[1]][0]),
        (&json!("active"), &json!("reserved"))
    );
    assert_eq!(told[&ids[0]][1]["id"], ids[0]);
    worker.analyzer.release.notify_waiters();
    until("there is room", || redis.ends().len() == 1);
    let _: i64 = redis.connection().lpush(keys::QUEUE, later).unwrap();
    until("it has come", || {
        remote.call("scheduled", json!({})) != json!([])
    });
    let scheduled = remote.call("dump_schedule", json!({}));
    assert_eq!(scheduled[0]["eta"], "2999-01-01T00:00:00+00:00");
    assert_eq!(scheduled[0]["request"]["id"], "later");
    assert_eq!(scheduled[0]["request"]["args"], json!([ids[1]]));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_says_what_it_is() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    assert_eq!(remote.call("registered", json!({})), json!([keys::TASK]));
    let stats = remote.call("stats", json!({}));
    assert_eq!(stats["total"], json!({keys::TASK: 0}));
    assert_eq!(stats["pool"]["max-concurrency"], 1);
    assert_eq!(stats["prefetch_count"], 8);
    assert_eq!(stats["broker"]["transport"], "redis");
    assert!(stats["rusage"]["maxrss"].as_u64().unwrap() > 0);
    assert!(stats["clock"].as_str().unwrap().parse::<u64>().unwrap() > 100);
    assert!(stats["uptime"].is_u64() && stats["pid"].is_u64());
    let conf = remote.call("conf", json!({"with_defaults": false}));
    assert_eq!(
        (&conf["task_default_queue"], &conf["result_expires"]),
        (&json!("imgsys"), &json!(600))
    );
    let report = remote.call("report", json!({}));
    assert!(
        report["ok"]
            .as_str()
            .unwrap()
            .contains("task_default_queue: 'imgsys'"),
        "{report}"
    );
    let queues = remote.call("active_queues", json!({}));
    assert_eq!(
        (&queues[0]["name"], &queues[0]["exchange"]["type"]),
        (&json!("imgsys"), &json!("direct"))
    );
    let clock = remote.call("clock", json!({}));
    assert!(clock["clock"].as_u64().unwrap() > 100);
    assert_eq!(remote.call("revoked", json!({})), json!([]));
    // A Python worker starts, and knows of two revoked tasks.
    let hello = remote.call(
        "hello",
        json!({"from_node": "py@test", "revoked": ["a", "b"]}),
    );
    assert_eq!(hello["revoked"], json!(["a", "b"]));
    assert!(hello["clock"].as_u64().unwrap() > 100);
    assert_eq!(
        remote.call("hello", json!({"from_node": NAME})),
        Value::Null
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_done_is_refused_with_the_reason() {
    let redis = Redis::start();
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    for (method, arguments, told) in [
        ("nonsense", json!({}), "KeyError('nonsense')"),
        (
            "autoscale",
            json!({"max": 3}),
            "ValueError('Autoscale not enabled')",
        ),
        ("pool_restart", json!({}), "Pool restarts not enabled"),
        (
            "revoke_by_stamped_headers",
            json!({"headers": {"a": "b"}}),
            "stamps are not looked at",
        ),
        ("memsample", json!({}), "not a Python process"),
        (
            "add_consumer",
            json!({"queue": "other"}),
            "from the queue \"imgsys\" only",
        ),
        ("add_consumer", json!({}), "'queue' is missing"),
        ("query_task", json!({"ids": 7}), "'ids' is no list"),
        ("revoke", json!({}), "'task_id' is missing"),
        (
            "rate_limit",
            json!({"task_name": "other", "rate_limit": "1/s"}),
            "unknown task",
        ),
        (
            "rate_limit",
            json!({"task_name": keys::TASK, "rate_limit": "x"}),
            "Invalid rate limit string",
        ),
        (
            "rate_limit",
            json!({"task_name": keys::TASK}),
            "'rate_limit' is missing",
        ),
        (
            "time_limit",
            json!({"task_name": "other", "soft": 1}),
            "unknown task",
        ),
        (
            "time_limit",
            json!({"task_name": keys::TASK, "hard": -1}),
            "'hard' is no number of seconds",
        ),
        ("pool_grow", json!({"n": -1}), "no number of threads"),
        ("pool_grow", json!({"n": 1}), "does not change to 2 threads"),
        ("pool_shrink", json!({"n": 1}), "1 threads now"),
        ("pool_grow", json!({"n": 1_000_000}), "1 threads now"),
    ] {
        let reply = remote.call(method, arguments);
        let error = reply["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{method}: {reply}"));
        assert!(error.contains(told), "{method}: {error}");
    }
    assert_eq!(
        remote.call("election", json!({"id": "x", "topic": "task"})),
        Value::Null
    );
    assert_eq!(
        remote.call("cancel_consumer", json!({"queue": "other"})),
        ok("no longer consuming from other")
    );
    // Nor does nonsense on the channel do any harm.
    for raw in [
        &b"nonsense"[..],
        b"{}",
        b"\xff",
        b"[1]",
        br#"{"body": "!", "content-type": "application/json"}"#,
    ] {
        remote.say(raw);
    }
    assert_eq!(remote.call("ping", json!({})), ok("pong"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_turned_on_and_off() {
    let redis = Redis::start();
    let monitor = Monitor::start(&redis);
    let worker = Worker::start(options(&redis.url(), NAME));
    let mut remote = Remote::new(&redis);
    let mut ids = Vec::new();
    for (method, reply) in [
        ("disable_events", "task events already disabled"),
        ("enable_events", "task events enabled"),
        ("enable_events", "task events already enabled"),
        ("disable_events", "task events disabled"),
    ] {
        assert_eq!(remote.call(method, json!({})), ok(reply));
        let task = task(ServerId::generate(), "x");
        ids.push(task.job.id.to_string());
        dispatch(&redis, &[task]).await;
        until("it is done", || redis.ends().len() == ids.len());
    }
    let beats = || {
        monitor
            .all()
            .iter()
            .filter(|event| event["type"] == "worker-heartbeat")
            .count()
    };
    let before = beats();
    assert_eq!(remote.call("heartbeat", json!({})), Value::Null);
    until("it beats", || beats() > before);
    worker.stop().await;
    until("it goes", || monitor.last("worker-offline").is_some());
    let seen: Vec<bool> = ids.iter().map(|id| !monitor.kinds(id).is_empty()).collect();
    assert_eq!(seen, [false, true, true, false]);

    let mut silent = options(&redis.url(), NAME);
    silent.events = CeleryEvents::Off;
    let worker = Worker::start(silent);
    let reply = remote.call("enable_events", json!({}));
    assert_eq!(reply, json!({"error": "event dispatcher unavailable"}));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_without_remote_control_does_not_listen() {
    let redis = Redis::start();
    let mut deaf = options(&redis.url(), NAME);
    deaf.remote_control = false;
    let worker = Worker::start(deaf);
    dispatch(&redis, &[task(ServerId::generate(), "x")]).await;
    until("it works", || redis.ends().len() == 1);
    assert_eq!(
        Remote::new(&redis).send("shutdown", json!({}), json!({})),
        0
    );
    worker.stop().await;
}
