//! `imgsys status`

use super::{listing, print, print_json};
use crate::{
    caller::Caller,
    cli::Status,
    context::Context,
    error::{ClientError, Exit},
    times::Span,
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{QueueStatus, Request, Status as ServerStatus},
};
use serde::Serialize;
use std::time::Duration;

/// The server's status as JSON.
#[derive(Debug, Serialize)]
struct Json {
    server: String,
    program: String,
    uptime_ms: u64,
    connections: u64,
    spool: u64,
    waiting: u64,
    oldest_ms: u64,
    queue: Option<QueueStatus>,
    database: bool,
}

/// Shows how the server is doing.
pub(crate) async fn run(args: Status, context: Context) -> Result<Exit, ClientError> {
    let answer = Caller::new(&context)
        .call(|req| ClientMessage::Status(Request { req }))
        .await?;
    let ServerMessage::Status(status) = answer else {
        return Err(ClientError::Nonsense);
    };
    if args.json {
        print_json(&context.screen, &Json::from(status))?;
    } else {
        print(
            &context.screen,
            &listing(&pairs(&context.server.address, &status)),
        )?;
    }
    Ok(Exit::Ok)
}

impl From<ServerStatus> for Json {
    fn from(status: ServerStatus) -> Self {
        Self {
            server: status.server.to_string(),
            program: status.program,
            uptime_ms: status.uptime_ms,
            connections: status.connections,
            spool: status.spool,
            waiting: status.waiting,
            oldest_ms: status.oldest_ms,
            queue: status.queue,
            database: status.database,
        }
    }
}

fn pairs(address: &str, status: &ServerStatus) -> Vec<(&'static str, String)> {
    let span = |ms| Span(Duration::from_millis(ms)).to_string();
    let mut pairs = vec![
        ("server", format!("{address} ({})", status.server)),
        ("program", status.program.clone()),
        ("up for", span(status.uptime_ms)),
        ("connections", status.connections.to_string()),
        (
            "spool",
            format!(
                "{} jobs, {} of them waiting for Redis",
                status.spool, status.waiting
            ),
        ),
        ("oldest job", span(status.oldest_ms)),
    ];
    match status.queue {
        Some(queue) => {
            pairs.push(("Redis", "answers".into()));
            pairs.push(("queued", queue.queued.to_string()));
            pairs.push(("running", queue.running.to_string()));
            pairs.push(("dead", queue.dead.to_string()));
        }
        None => pairs.push(("Redis", "does not answer".into())),
    }
    let database = if status.database {
        "answers"
    } else {
        "does not answer"
    };
    pairs.push(("database", database.into()));
    pairs
}
