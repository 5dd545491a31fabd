//! What Redis knows of tasks before they run.

use super::Shared;
use crate::{
    incoming::{self, Incoming},
    keys,
    link::Backoff,
};
use imgsys_types::{JobId, ServerId};
use redis::RedisResult;
use std::collections::{BTreeMap, HashMap};

/// So many holders may die of a task before it has to run alone.
pub(super) const MAX_TAKEOVERS: u32 = 2;

/// What Redis knows of a popped task.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Its job has ended already.
    pub(super) ended: bool,
    /// How many of its holders have died.
    pub(super) takeovers: u32,
}

/// The marks of some servers' jobs, as they were a moment ago.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(ServerId, JobId), Option<String>>);

/// The marks of the jobs that these messages are of. When Redis does not answer, nothing is known, and
/// [`look_up`] asks again; what the messages hold besides is the business of who pops them.
pub(super) async fn known(shared: &Shared, messages: &[Vec<u8>]) -> Known {
    let jobs: Vec<(ServerId, JobId)> = messages
        .iter()
        .filter_map(|message| incoming::parse(message).ok())
        .map(|task| (task.arguments.server, task.arguments.job))
        .collect();
    if jobs.is_empty() {
        return Known::default();
    }
    let mut pipeline = redis::pipe();
    for &(server, job) in &jobs {
        let open = shared.keys().open(server);
        pipeline.cmd("HGET").arg(open).arg(job.to_string());
    }
    let marks: RedisResult<Vec<Option<String>>> = shared.link.pipeline(&pipeline).await;
    // An error has been noted by the link.
    Known(jobs.into_iter().zip(marks.unwrap_or_default()).collect())
}

/// Says whether the tasks' jobs have ended already, and how often holders of those that come
/// again have died. Nothing is known of them if the worker stops meanwhile.
pub(super) async fn look_up(shared: &Shared, tasks: &[&Incoming], known: &Known) -> Vec<Facts> {
    let keys = shared.keys();
    let mut facts = vec![Facts::default(); tasks.len()];
    let mut by_server: BTreeMap<ServerId, Vec<usize>> = BTreeMap::new();
    for (place, task) in tasks.iter().enumerate() {
        let (server, job) = (task.arguments.server, task.arguments.job);
        match known.0.get(&(server, job)) {
            Some(mark) => facts[place].ended = has_ended(task, mark.as_deref()),
            None => by_server.entry(server).or_default().push(place),
        }
    }
    let again = tasks.iter().enumerate();
    let again = again.filter(|(_, task)| task.redelivered);
    let again: Vec<usize> = again.map(|(place, _)| place).collect();
    let mut pipeline = redis::pipe();
    for (&server, places) in &by_server {
        pipeline.cmd("HMGET").arg(keys.open(server));
        for &place in places {
            pipeline.arg(tasks[place].arguments.job.to_string());
        }
    }
    if !again.is_empty() {
        pipeline.cmd("HMGET").arg(keys.takeovers());
        for &place in &again {
            pipeline.arg(&tasks[place].id);
        }
    }
    if pipeline.is_empty() {
        return facts;
    }
    let mut backoff = Backoff::redis();
    let replies: Vec<Vec<Option<String>>> = loop {
        match shared.link.pipeline(&pipeline).await {
            Ok(replies) => break replies,
            Err(_noted) => tokio::select! {
                () = backoff.wait() => {}
                () = shared.stop.cancelled() => return facts,
            },
        }
    };
    let mut replies = replies.into_iter();
    for places in by_server.values() {
        let marks = replies.next().unwrap_or_default();
        for (&place, mark) in places.iter().zip(marks) {
            facts[place].ended = has_ended(tasks[place], mark.as_deref());
        }
    }
    for (place, count) in again.into_iter().zip(replies.next().unwrap_or_default()) {
        facts[place].takeovers = match count {
            None => 0,
            Some(count) if count == keys::ALONE => MAX_TAKEOVERS,
            Some(count) => count.parse().unwrap_or(0),
        };
    }
    facts
}

fn has_ended(task: &Incoming, mark: Option<&str>) -> bool {
    mark.is_some_and(|mark| mark != keys::queued(task.arguments.run))
}
