//! Ending tasks: event, news for the server, Celery result and acknowledgement in one script.
//!
//! Ends are sent in batches, again and again until Redis has answered for each. An answer that was
//! lost does no harm, for the script does nothing twice.

mod many;
#[cfg(test)]
mod tests;

use super::leases::Released;
use crate::{
    canvas::Sent,
    celery_result::{Keep, celery_result, celery_result_of, follow, iso},
    events,
    incoming::{Incoming, Kin, MAX_MESSAGE, Rejected},
    keys::{self, Keys},
    link::{Backoff, Link, is_no_script},
    scripts,
};
use imgsys_types::{Failure, FailureReason, Job, JobRecord, JobResult, Timestamp};
use many::{TOGETHER, calls, many_command};
use redis::{Cmd, RedisResult, Value, cmd};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{error, warn};

/// How many ends are sent at once.
const BATCH: usize = 256;
/// How long an end waits for others to go with it, while the worker has enough to do besides: a part of
/// what its job has taken so far, within these bounds.
const GATHER: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(16));
/// Which part.
const GATHER_PART: u64 = 4;
/// How many dead letters are kept; the oldest go first.
const MAX_DEAD: usize = 10_000;
/// How many bytes of a message that is too long are kept with its dead letter.
const KEPT_OF_LONG: usize = 4096;

/// The end of a message.
#[derive(Debug)]
pub(super) struct Finish {
    task_id: String,
    tags: Vec<String>,
    event: Option<Event>,
    /// For Celery.
    result: Option<String>,
    dead: Option<String>,
    /// Messages for other queues.
    sent: Vec<Sent>,
    /// The ids of tasks that will not be run, with their Celery results.
    failed: Vec<(String, String)>,
    done: Option<oneshot::Sender<()>>,
    /// Redis has refused a call that it was part of.
    refused: bool,
}

#[derive(Debug)]
struct Event {
    record: JobRecord,
    run: u32,
    data: String,
}

impl Finish {
    /// Only takes the message off the queue.
    pub(super) fn acknowledge(task_id: String, tags: Vec<String>) -> Self {
        Self {
            task_id,
            tags,
            event: None,
            result: None,
            dead: None,
            sent: Vec::new(),
            failed: Vec::new(),
            done: None,
            refused: false,
        }
    }

    /// Ends a task with a result.
    pub(super) fn task(released: Released, result: JobResult) -> Self {
        let arguments = &released.task.arguments;
        let mut finish = Self::acknowledge(released.task.id.clone(), released.tags);
        let record = JobRecord {
            job: arguments.job(),
            result: None,
        };
        finish.tell(record, result, &released.task.kin);
        finish
    }

    /// Sets a message aside that can't be run.
    pub(super) fn rejected(tag: &str, raw: &[u8], rejected: Rejected, worker: &str) -> Self {
        let failure = Failure::new(rejected.failure(), &rejected.detail);
        warn!(
            job = rejected.id,
            "set a message aside: {}: {}", rejected.reason, rejected.detail
        );
        let mut finish = Self::acknowledge(
            rejected.id.clone().unwrap_or_default(),
            vec![tag.to_owned()],
        );
        finish.dead = Some(dead_letter(rejected.reason, &rejected.detail, raw));
        let run = rejected.ours.as_ref().map_or(0, |(_, run)| *run);
        let result = JobResult {
            worker: Some(worker.to_owned()),
            ..JobResult::failed(run, failure)
        };
        if let Some((job, _)) = rejected.ours {
            finish.tell(JobRecord { job, result: None }, result, &rejected.kin);
        } else if rejected.id.is_some() {
            let told = events::result_to_json(&result)
                .and_then(|json| finish.tell_celery(&result, &json, &rejected.kin));
            if let Err(error) = told {
                error!("writing a result for Celery: {error}");
            }
        }
        finish
    }

    /// Condemns a task whose holders died of it.
    pub(super) fn condemned(released: Released, attempts: u32) -> Self {
        const DETAIL: &str =
            "every worker that took it died, the last one while it ran nothing else";
        let job = released.task.arguments.job;
        warn!(%job, "a task is a dead letter: {DETAIL}");
        let dead = dead_letter("dead_letter", DETAIL, released.task.raw.as_bytes());
        let failure = Failure::new(FailureReason::DeadLetter, DETAIL);
        let result = JobResult {
            attempts,
            ..JobResult::failed(released.task.arguments.run, failure)
        };
        Self {
            dead: Some(dead),
            ..Self::task(released, result)
        }
    }

    /// Says when it is done.
    pub(super) fn done(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.done = Some(sender);
        receiver
    }

    pub(super) fn tags(&self) -> &[String] {
        &self.tags
    }

    pub(super) fn task_id(&self) -> &str {
        &self.task_id
    }

    fn tell(&mut self, mut record: JobRecord, result: JobResult, kin: &Kin) {
        let result = result.bounded();
        let run = result.run;
        // Written once, though it is told to two.
        let written = events::result_to_json(&result).and_then(|json| {
            self.tell_celery(&result, &json, kin)?;
            events::with_result(&record.job, &json)
        });
        record.result = Some(result);
        match written {
            Ok(data) => self.event = Some(Event { record, run, data }),
            Err(error) => error!(job = %record.job.id, "writing a result: {error}"),
        }
    }

    /// Writes Celery's result, and what follows from it. Of the result the JSON is given.
    fn tell_celery(
        &mut self,
        result: &JobResult,
        json: &str,
        kin: &Kin,
    ) -> Result<(), serde_json::Error> {
        let followed = follow(&self.task_id, result, kin);
        self.sent = followed.sent;
        for id in followed.failed {
            let theirs = celery_result(&id, result)?;
            self.failed.push((id, theirs));
        }
        if !kin.ignore_result {
            let children = &followed.children;
            self.result = Some(celery_result_of(
                &self.task_id,
                result,
                json,
                kin,
                children,
            )?);
        }
        Ok(())
    }

    /// The job that it ends, if nothing else is to be done about it. What was refused goes by itself from
    /// then on, so that no other has to wait with it.
    fn ordinary(&self) -> Option<&Job> {
        let alone =
            !self.refused && self.dead.is_none() && self.sent.is_empty() && self.failed.is_empty();
        let event = self.event.as_ref()?;
        (alone && self.tags.len() == 1).then_some(&event.record.job)
    }

    /// How long it may wait for others.
    fn patience(&self) -> Duration {
        let result = self.event.as_ref().and_then(|e| e.record.result.as_ref());
        let taken = result.map_or(0, |r| r.queued_us.saturating_add(r.analysis_us));
        Duration::from_micros(taken / GATHER_PART).clamp(GATHER.0, GATHER.1)
    }

    fn command(&self, keys: &Keys, keep: Keep) -> Cmd {
        let none = String::new();
        // Results that are not kept are not made.
        let failed = if keep.seconds() == 0 {
            &[]
        } else {
            &self.failed[..]
        };
        let mut cmd = cmd("EVALSHA");
        cmd.arg(scripts::FINISH.get_hash())
            .arg(7 + self.sent.len() + failed.len());
        let event = self.event.as_ref();
        cmd.arg(keys.open(event.map_or_else(keys::no_server, |e| e.record.job.server)))
            .arg(keys.events())
            .arg(keys.unacked())
            .arg(keys.unacked_index())
            .arg(keys.takeovers())
            .arg(keys.task_result(&self.task_id))
            .arg(keys.dead());
        for sent in &self.sent {
            cmd.arg(keys.priority_list(&sent.queue, sent.level));
        }
        for (id, _) in failed {
            cmd.arg(keys.task_result(id));
        }
        cmd.arg(event.map_or_else(String::new, |e| e.record.job.id.to_string()))
            .arg(event.map_or_else(String::new, |e| keys::queued(e.run)))
            .arg(event.map_or("", |e| events::kind(&e.record)))
            .arg(event.map_or(&none, |e| &e.data))
            .arg(event.map_or_else(String::new, |e| keys.results(e.record.job.server)))
            .arg(keep.if_any(self.result.as_ref().unwrap_or(&none)))
            .arg(keep.seconds())
            .arg(self.dead.as_ref().unwrap_or(&none))
            .arg(MAX_DEAD)
            .arg(&self.task_id);
        for sent in &self.sent {
            cmd.arg("LPUSH").arg(&sent.message);
        }
        for (_, result) in failed {
            cmd.arg("SETEX").arg(result);
        }
        cmd.arg(&self.tags);
        cmd
    }
}

/// The command that ends a task, as it is sent.
pub(crate) fn end_command(task: Arc<Incoming>, tag: &str, result: JobResult) -> Vec<u8> {
    let tags = vec![tag.to_owned()];
    let end = Finish::task(Released { task, tags }, result);
    end.command(&Keys::new(0, "", ""), Keep::new(Duration::from_secs(600)))
        .get_packed_command()
}

fn dead_letter(reason: &str, detail: &str, raw: &[u8]) -> String {
    // All of them are kept in memory, by Redis.
    let kept = if raw.len() > MAX_MESSAGE {
        &raw[..KEPT_OF_LONG]
    } else {
        raw
    };
    json!({
        "reason": reason,
        "detail": detail,
        "queue": keys::QUEUE,
        "at": iso(Timestamp::now()),
        "message": String::from_utf8_lossy(kept),
    })
    .to_string()
}

/// Sends ends to Redis until nobody can bring any more.
pub(super) async fn finisher(
    link: Link,
    keep: Keep,
    mut ends: mpsc::UnboundedReceiver<Finish>,
    is_busy: impl Fn() -> bool,
) {
    let mut batch = Vec::new();
    let mut backoff = Backoff::redis();
    loop {
        if batch.is_empty() {
            if ends.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            backoff.reset();
            gather(&mut ends, &mut batch, &is_busy).await;
        } else {
            backoff.wait().await;
            while batch.len() < BATCH
                && let Ok(end) = ends.try_recv()
            {
                batch.push(end);
            }
        }
        send(&link, keep, &mut batch).await;
    }
}

/// Waits a little for more ends, as long as the worker has other tasks to go on with: each call of
/// Redis costs the same for one end as for many, and nobody is kept from working by it.
async fn gather(
    ends: &mut mpsc::UnboundedReceiver<Finish>,
    batch: &mut Vec<Finish>,
    is_busy: impl Fn() -> bool,
) {
    let patience = batch.first().map_or(GATHER.0, Finish::patience);
    let gathered = async {
        while batch.len() < TOGETHER && is_busy() {
            if ends.recv_many(batch, BATCH).await == 0 {
                return;
            }
        }
    };
    // What has come is in the batch, whenever this ends.
    let _ = timeout(patience, gathered).await;
}

/// Sends the batch; what is not done stays in it.
async fn send(link: &Link, keep: Keep, batch: &mut Vec<Finish>) {
    let calls = calls(std::mem::take(batch));
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for call in &calls {
        pipeline.add_command(match &call[..] {
            [one] => one.command(link.keys(), keep),
            many => many_command(many, link.keys(), keep),
        });
    }
    let replies = match link.pipeline::<Vec<RedisResult<Value>>>(&pipeline).await {
        Ok(replies) if replies.iter().any(lacks_script) => match load(link).await {
            Ok(()) => link.pipeline(&pipeline).await,
            Err(error) => Err(error),
        },
        other => other,
    };
    let Ok(replies) = replies else {
        // An error of the connection has been noted by the link.
        batch.extend(calls.into_iter().flatten());
        return;
    };
    for (ends, reply) in calls.into_iter().zip(replies) {
        match reply {
            Ok(_) => {
                for finish in ends {
                    // Nobody may be waiting.
                    let _ = finish.done.map(|done| done.send(()));
                }
            }
            Err(error) => {
                link.failed(&error);
                batch.extend(ends.into_iter().map(|mut end| {
                    end.refused = true;
                    end
                }));
            }
        }
    }
}

async fn load(link: &Link) -> RedisResult<()> {
    for text in [scripts::FINISH_TEXT, scripts::FINISH_MANY_TEXT] {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(text);
        link.query::<String>(&load).await?;
    }
    Ok(())
}

fn lacks_script(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(is_no_script)
}
