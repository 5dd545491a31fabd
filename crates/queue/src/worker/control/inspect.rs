//! Questions: what a worker is, has and does.

use super::{Arguments, Reply, ok};
use crate::{
    keys,
    monitor::host,
    worker::{
        Shared,
        describe::{info, standing},
        leases::{Standing, View},
    },
};
use redis::ConnectionAddr;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The reply to a question; `None` if the method is none.
pub(super) fn answer(shared: &Arc<Shared>, method: &str, arguments: &Arguments) -> Option<Reply> {
    Some(match method {
        "ping" => ok("pong"),
        "active" | "dump_active" => {
            let safe = arguments.is_set("safe");
            Ok(held(shared, Standing::Active, |view| {
                task(shared, view, safe)
            }))
        }
        "reserved" | "dump_reserved" => Ok(held(shared, Standing::Reserved, |view| {
            task(shared, view, false)
        })),
        "scheduled" | "dump_schedule" => Ok(held(shared, Standing::Scheduled, |view| {
            json!({
                "eta": view.task.eta.map(|eta| eta.to_rfc3339()),
                "priority": 6,
                "request": task(shared, view, false),
            })
        })),
        "query_task" => query(shared, arguments),
        "registered" | "dump_tasks" => Ok(registered(shared, arguments)),
        "revoked" | "dump_revoked" => Ok(shared.control.revoked.all().into()),
        "active_queues" => Ok(queues(shared)),
        "stats" => Ok(stats(shared)),
        "report" => ok(report(shared)),
        "conf" | "dump_conf" => Ok(conf(shared)),
        "clock" => Ok(json!({"clock": shared.events.clock().value()})),
        "hello" => hello(shared, arguments),
        "memsample" | "memdump" | "objgraph" => {
            Err("NotImplementedError('not a Python process: see its metrics')".to_owned())
        }
        _ => return None,
    })
}

fn task(shared: &Shared, view: &View, safe: bool) -> Value {
    info(view, &shared.options.name, safe)
}

fn held(shared: &Shared, standing: Standing, tell: impl Fn(&View) -> Value) -> Value {
    let views = shared.leases.views();
    let chosen = views.iter().filter(|view| view.standing == standing);
    chosen.map(tell).collect()
}

fn query(shared: &Shared, arguments: &Arguments) -> Reply {
    let ids = arguments.texts("ids")?;
    let views = ids.iter().filter_map(|id| shared.leases.view(id));
    let found: Map<String, Value> = views
        .map(|view| {
            let told = json!([standing(&view), task(shared, &view, false)]);
            (view.task.id.clone(), told)
        })
        .collect();
    Ok(found.into())
}

/// The one task, with what is asked of it.
fn registered(shared: &Shared, arguments: &Arguments) -> Value {
    let items = arguments.texts("taskinfoitems").unwrap_or_default();
    // That is what Python tells of these by default.
    let wanted = |item: &str| items.is_empty() || items.iter().any(|wanted| wanted == item);
    match shared.control.rate.text().filter(|_| wanted("rate_limit")) {
        Some(rate) => json!([format!("{} [rate_limit={rate}]", keys::TASK)]),
        None => json!([keys::TASK]),
    }
}

fn queues(shared: &Shared) -> Value {
    if !*shared.control.consuming.borrow() {
        return json!([]);
    }
    json!([{
        "name": keys::QUEUE,
        "exchange": {
            "name": keys::QUEUE,
            "type": "direct",
            "arguments": null,
            "durable": true,
            "passive": false,
            "auto_delete": false,
            "delivery_mode": null,
            "no_declare": false,
        },
        "routing_key": keys::QUEUE,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    }])
}

fn stats(shared: &Shared) -> Value {
    let threads = shared.analyzer.threads();
    json!({
        "total": {keys::TASK: shared.events.processed()},
        "pid": std::process::id(),
        // A text there, too.
        "clock": shared.events.clock().value().to_string(),
        "uptime": shared.begun.elapsed().as_secs(),
        "pool": {
            "implementation": "imgsys: threads",
            "max-concurrency": threads,
            "threads": threads,
            "processes": [std::process::id()],
        },
        "broker": broker(shared),
        "prefetch_count": shared.prefetch.now(),
        "rusage": host::usage(),
    })
}

/// Where Redis is, without the password.
fn broker(shared: &Shared) -> Value {
    let place = shared.link.place();
    let settings = place.redis_settings();
    let (hostname, port, tls) = match place.addr() {
        ConnectionAddr::Tcp(host, port) => (host.clone(), Some(*port), false),
        ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), Some(*port), true),
        ConnectionAddr::Unix(path) => (path.display().to_string(), None, false),
        other => (other.to_string(), None, false),
    };
    json!({
        "hostname": hostname,
        "userid": settings.username(),
        "virtual_host": settings.db().to_string(),
        "port": port,
        "insist": false,
        "ssl": tls,
        "transport": "redis",
        "connect_timeout": null,
        "transport_options": {"visibility_timeout": shared.options.lease.as_secs_f64()},
        "login_method": null,
        "uri_prefix": null,
        "heartbeat": null,
        "failover_strategy": null,
        "alternates": [],
    })
}

/// The settings that mean something here, under Celery's names.
fn conf(shared: &Shared) -> Value {
    let options = &shared.options;
    json!({
        "task_default_queue": keys::QUEUE,
        "task_acks_late": true,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_reject_on_worker_lost": true,
        "task_time_limit": shared.control.time_limit().map(|limit| limit.as_secs_f64()),
        "broker_transport": "redis",
        "broker_transport_options": {"visibility_timeout": options.lease.as_secs_f64()},
        "result_expires": options.result_expires.as_secs(),
        "worker_concurrency": shared.analyzer.threads(),
        "worker_prefetch_count": shared.prefetch.now(),
        "worker_send_task_events": shared.events.tasks(),
        "worker_enable_remote_control": options.remote_control,
        "worker_soft_shutdown_timeout": options.drain.as_secs_f64(),
        "timezone": "UTC",
        "enable_utc": true,
    })
}

fn report(shared: &Shared) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "\nsoftware -> {}:{}\nplatform -> system:{} arch:{}\nsettings ->\n\n",
        host::SOFTWARE,
        host::VERSION,
        host::system(),
        std::env::consts::ARCH,
    );
    if let Value::Object(settings) = conf(shared) {
        for (name, value) in settings {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{name}: {}", crate::monitor::python::value(&value));
        }
    }
    text
}

/// A worker that starts makes itself known, and learns what others know.
fn hello(shared: &Arc<Shared>, arguments: &Arguments) -> Reply {
    if arguments.text("from_node")? == shared.options.name {
        return Ok(Value::Null);
    }
    let theirs = match arguments.get("revoked") {
        Some(Value::Object(by_id)) => by_id.keys().cloned().collect(),
        Some(_) => arguments.texts("revoked")?,
        None => Vec::new(),
    };
    shared.revoke(theirs, false);
    Ok(json!({
        "revoked": shared.control.revoked.all(),
        "clock": shared.events.clock().forward(),
    }))
}
