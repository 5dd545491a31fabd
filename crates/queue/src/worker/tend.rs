//! Tending leases: renewing our own, and taking over those whose holder has died.

use super::{Shared, finish::Finish, leases::Released, wait};
use crate::{
    incoming::{self, Rejected},
    keys,
    link::Backoff,
    scripts,
};
use redis::{RedisResult, cmd};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// How many leases are renewed, or restored, in one go.
const CHUNK: usize = 500;
/// How long the lock may be ours.
const LOCKED: Duration = Duration::from_secs(5);
/// How many holders have died of a task that is condemned: the two before it ran alone, and one.
const CONDEMNED_AFTER: u32 = 3;

/// Tends leases three times in each lease, until the end.
pub(super) async fn tend(shared: Arc<Shared>, end: CancellationToken) {
    end.run_until_cancelled(async {
        let mut backoff = Backoff::redis();
        loop {
            let next = Instant::now() + shared.options.lease / 3;
            match round(&shared).await {
                Ok(()) => {
                    backoff.reset();
                    sleep_until(next).await;
                }
                Err(_noted) => backoff.wait().await,
            }
        }
    })
    .await;
}

async fn round(shared: &Shared) -> RedisResult<()> {
    for tags in shared.leases.tags().chunks(CHUNK) {
        let mut renew = scripts::RENEW.key(shared.keys().unacked_index());
        renew.arg(tags);
        shared.link.script::<()>(&renew).await?;
    }
    // A worker that stops has no claims, and leaves the dead to others.
    if !shared.stop.is_cancelled() {
        look_after_the_dead(shared).await?;
    }
    Ok(())
}

async fn look_after_the_dead(shared: &Shared) -> RedisResult<()> {
    let token = Uuid::new_v4().to_string();
    let mut look = scripts::TEND.key(shared.keys().unacked());
    look.key(shared.keys().unacked_index())
        .key(shared.keys().tending())
        .key(shared.keys().claims())
        .key(shared.keys().tended())
        .arg(&shared.options.name)
        .arg(shared.options.lease.as_secs_f64())
        .arg(&token)
        .arg(u64::try_from(LOCKED.as_millis()).unwrap_or(u64::MAX))
        // Python puts spaces between the parts.
        .arg(format!("\"{}\"%s*%]%s*$", keys::QUEUE))
        .arg(CHUNK);
    let (stale, lost): (Vec<String>, Vec<Vec<u8>>) = shared.link.script(&look).await?;
    for worker in stale {
        let moved = wait::unclaim(shared, &worker).await?;
        let forget = cmd("ZREM")
            .arg(shared.keys().claims())
            .arg(&worker)
            .to_owned();
        shared.link.query::<i64>(&forget).await?;
        if moved > 0 {
            warn!("worker {worker} is dead; put back {moved} messages that it had claimed");
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let restored = restore_all(shared, &lost).await;
    let mut unlock = scripts::UNLOCK.key(shared.keys().tending());
    shared.link.script::<()>(unlock.arg(&token)).await?;
    let restored = restored?;
    if restored > 0 {
        warn!("took over {restored} tasks whose workers are dead");
    }
    Ok(())
}

async fn restore_all(shared: &Shared, lost: &[Vec<u8>]) -> RedisResult<usize> {
    let mut restored = 0;
    for pair in lost.chunks_exact(2) {
        let tag = String::from_utf8_lossy(&pair[0]);
        restored += usize::from(restore(shared, &tag, &pair[1]).await?);
    }
    Ok(restored)
}

/// Puts back a message whose lease has run out, or condemns its task.
async fn restore(shared: &Shared, tag: &str, entry: &[u8]) -> RedisResult<bool> {
    let parsed = serde_json::from_slice::<(Value, Value, Value)>(entry)
        .ok()
        .and_then(|(message, _, _)| incoming::redelivered(message));
    let Some(message) = parsed else {
        let rejected = Rejected::new("not_json", "an entry of `unacked` that holds no message");
        let finish = Finish::rejected(tag, entry, *rejected, &shared.options.name);
        shared.end(finish);
        return Ok(false);
    };
    let task = incoming::parse(message.as_bytes());
    let (id, level) = match &task {
        Ok(task) => (task.id.as_str(), task.level),
        // Whoever pops it will set it aside.
        Err(rejected) => (rejected.id.as_deref().unwrap_or(tag), 0),
    };
    // What still waits for its time has killed nobody.
    let may_have_run = task.as_ref().is_ok_and(|task| !task.is_early());
    let mut call = scripts::RESTORE.key(shared.keys().unacked());
    call.key(shared.keys().unacked_index())
        .key(shared.keys().takeovers())
        .key(shared.keys().priority_list(keys::QUEUE, level))
        .arg(tag)
        .arg(shared.options.lease.as_secs_f64())
        .arg(id)
        .arg(&message)
        .arg(u8::from(may_have_run));
    let outcome: String = shared.link.script(&call).await?;
    if outcome == keys::ALONE {
        shared.end(match task {
            Ok(task) => {
                let attempts = task.retries.saturating_add(CONDEMNED_AFTER);
                let released = Released {
                    task: Arc::new(task),
                    tags: vec![tag.to_owned()],
                };
                Finish::condemned(released, attempts)
            }
            Err(rejected) => {
                let raw = message.as_bytes();
                Finish::rejected(tag, raw, *rejected, &shared.options.name)
            }
        });
    }
    Ok(outcome == "restored")
}
