//! Celery's remote control: whoever publishes a command on one channel gets an answer from each
//! worker whom it concerns, on a list that he names.

use super::{envelope, events::Events};
use crate::{
    error::is_forbidden,
    keys,
    link::{Backoff, Link},
    subscription::{SILENCE, Subscription},
};
use redis::{RedisResult, cmd};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a reply waits for whoever asked: as long as Python's own lists live.
const REPLY_TTL: Duration = Duration::from_secs(10);
/// The longest command that is looked at, in bytes: a hello may bring 50 000 revoked tasks.
const MAX: usize = 8 << 20;

/// A command, and the arguments by name.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) method: String,
    pub(crate) arguments: Map<String, Value>,
}

#[derive(Deserialize)]
struct Letter {
    method: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
    #[serde(default)]
    destination: Option<Vec<Value>>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    matcher: Option<String>,
    #[serde(default)]
    ticket: Value,
    #[serde(default)]
    reply_to: Option<ReplyTo>,
}

#[derive(Deserialize)]
struct ReplyTo {
    exchange: String,
    routing_key: String,
}

/// Hears commands until the worker ends, and gives each to `answer`, which may have none to give.
pub(crate) async fn hear(
    link: &Link,
    hostname: &str,
    events: &Events,
    answer: impl Fn(Command) -> Option<Value>,
    end: &CancellationToken,
) {
    let hearing = async {
        let mut backoff = Backoff::redis();
        loop {
            let begun = Instant::now();
            match subscription(link, hostname, events, &answer).await {
                Err(error) if is_forbidden(&error) => {
                    warn!(
                        "no remote control: our user of Redis may not listen to it; \
                         docs/queue.md has the ACL rules"
                    );
                    return;
                }
                Err(error) => link.failed(&error),
                Ok(never) => match never {},
            }
            if begun.elapsed() > SILENCE {
                backoff.reset();
            }
            backoff.wait().await;
        }
    };
    end.run_until_cancelled(hearing).await;
}

async fn subscription(
    link: &Link,
    hostname: &str,
    events: &Events,
    answer: &impl Fn(Command) -> Option<Value>,
) -> RedisResult<Infallible> {
    let channel = link.keys().celery_control();
    let mut subscription = Subscription::new(link, &[channel]).await?;
    loop {
        let message = subscription.next().await?;
        let Some(letter) = read(message.get_payload_bytes(), hostname, events) else {
            continue;
        };
        let command = Command {
            method: letter.method,
            arguments: letter.arguments.unwrap_or_default(),
        };
        debug!("remote control: {} {:?}", command.method, command.arguments);
        let reply = answer(command);
        if let (Some(reply), Some(to)) = (reply, letter.reply_to) {
            let body = json!({hostname: reply}).to_string();
            let headers = json!({"ticket": letter.ticket, "clock": events.clock().forward()});
            let sealed = envelope::seal(&body, &headers, &to.exchange, &to.routing_key);
            // Whoever asked may have gone; an outage has been noted by the link.
            let _ = send(link, &to, &sealed).await;
        }
    }
}

/// Reads a command. `None` if it is for others, or if there is nothing to be made of it.
///
/// Commands have a header `expires`, by the clock of whoever sent them. It is not looked at, nor
/// does Python: on a channel nothing comes late, and clocks differ.
fn read(raw: &[u8], hostname: &str, events: &Events) -> Option<Letter> {
    if raw.len() > MAX {
        warn!(
            "a remote control command of {} bytes is not looked at",
            raw.len()
        );
        return None;
    }
    let opened = envelope::open(raw)
        .map_err(|error| warn!("a remote control command makes no sense: {error}"))
        .ok()?;
    events.clock().adjust(
        opened
            .headers
            .get("clock")
            .and_then(Value::as_u64)
            .unwrap_or(0),
    );
    let letter: Letter = serde_json::from_value(opened.body)
        .map_err(|error| warn!("a remote control command makes no sense: {error}"))
        .ok()?;
    is_for(hostname, &letter).then_some(letter)
}

fn is_for(hostname: &str, letter: &Letter) -> bool {
    if let Some(destination) = letter.destination.as_ref().filter(|all| !all.is_empty()) {
        return destination.iter().any(|one| one == hostname);
    }
    match (letter.pattern.as_deref(), letter.matcher.as_deref()) {
        (Some(pattern), Some(matcher)) if !pattern.is_empty() && !matcher.is_empty() => {
            let regex = match matcher {
                "glob" => Regex::new(&from_glob(pattern)),
                // Python's `match` begins at the beginning, and need not end at the end.
                "pcre" => Regex::new(&format!(r"\A(?:{pattern})")),
                other => {
                    warn!(
                        "a remote control command is for workers found by {other:?}, not by glob or pcre"
                    );
                    return false;
                }
            };
            match regex {
                Ok(regex) => regex.is_match(hostname),
                Err(error) => {
                    warn!(
                        "a remote control command is for workers whose name can't be told: {error}"
                    );
                    false
                }
            }
        }
        _ => true,
    }
}

/// A shell's pattern as a regular expression.
fn from_glob(pattern: &str) -> String {
    let mut regex = String::from(r"(?s)\A");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let (negated, set) = match rest.strip_prefix('!') {
                    Some(set) => (true, set),
                    None => (false, rest),
                };
                // A bracket right at the beginning is one of those that are meant.
                let close = set.char_indices().skip(1).find(|(_, c)| *c == ']');
                if let Some((close, _)) = close {
                    regex.push_str(if negated { "[^" } else { "[" });
                    for c in set[..close].chars() {
                        if c != '-' {
                            regex.push('\\');
                            // Letters and digits with a backslash would mean something else.
                            if c.is_alphanumeric() || c.is_whitespace() {
                                regex.pop();
                            }
                        }
                        regex.push(c);
                    }
                    regex.push(']');
                    rest = &set[close + 1..];
                } else {
                    regex.push_str(r"\[");
                }
            }
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push_str(r"\z");
    regex
}

/// Puts a reply on the lists that are bound for it. Those of who died while waiting would stay, so
/// they have a time to live.
async fn send(link: &Link, to: &ReplyTo, sealed: &str) -> RedisResult<()> {
    let mut bindings = cmd("SMEMBERS");
    bindings.arg(link.keys().celery_bindings(&to.exchange));
    let bindings: Vec<String> = link.query(&bindings).await?;
    let mut push = redis::pipe();
    for binding in &bindings {
        let mut parts = binding.split(keys::SEPARATOR);
        if parts.next() == Some(&to.routing_key)
            && let Some(list) = parts.nth(1)
        {
            let ttl = u64::try_from(REPLY_TTL.as_millis()).unwrap_or(u64::MAX);
            // Replies have no priority.
            let list = link.keys().priority_list(list, 0);
            push.cmd("LPUSH").arg(&list).arg(sealed).ignore();
            push.cmd("PEXPIRE").arg(&list).arg(ttl).ignore();
        }
    }
    if push.is_empty() {
        debug!("nobody waits for a remote control reply any more");
        return Ok(());
    }
    link.pipeline(&push).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concerns(name: &str, fields: &Value) -> bool {
        let mut letter = json!({"method": "ping"});
        letter
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        is_for(name, &serde_json::from_value(letter).unwrap())
    }

    #[test]
    fn command_is_for_those_whom_it_names() {
        let name = "imgsys-3f9a@host.example";
        for (fields, expected) in [
            (json!({}), true),
            (
                json!({"destination": null, "pattern": null, "matcher": null}),
                true,
            ),
            (json!({"destination": []}), true),
            (json!({"destination": ["a@b", name]}), true),
            (json!({"destination": ["a@b"]}), false),
            (
                json!({"pattern": "imgsys-*@host.*", "matcher": "glob"}),
                true,
            ),
            (
                json!({"pattern": "imgsys-3f9?@[a-h]ost.[!x]xample", "matcher": "glob"}),
                true,
            ),
            (
                json!({"pattern": "imgsys-3f9a@[!h]*", "matcher": "glob"}),
                false,
            ),
            (json!({"pattern": "imgsys", "matcher": "glob"}), false),
            (json!({"pattern": "[", "matcher": "glob"}), false),
            (json!({"pattern": "imgsys-[0-9]f", "matcher": "pcre"}), true),
            (json!({"pattern": "host", "matcher": "pcre"}), false),
            (json!({"pattern": "(", "matcher": "pcre"}), false),
            (json!({"pattern": "x", "matcher": "telepathy"}), false),
            (json!({"pattern": "x"}), true),
        ] {
            assert_eq!(concerns(name, &fields), expected, "{fields}");
        }
    }

    #[test]
    fn brackets_mean_what_they_mean_to_a_shell() {
        for (pattern, text, expected) in [
            ("a[]]b", "a]b", true),
            ("a[^x]b", "a^b", true),
            ("a[\\d]b", "a5b", false),
            ("a[b", "a[b", true),
            ("a.b", "axb", false),
        ] {
            let regex = Regex::new(&from_glob(pattern)).unwrap();
            assert_eq!(regex.is_match(text), expected, "{pattern}");
        }
    }
}
