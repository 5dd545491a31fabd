//! Ends that go in one call of a script.

use super::Finish;
use crate::{
    celery_result::Keep,
    events,
    keys::{self, Keys},
    scripts,
};
use imgsys_types::{JobId, ServerId};
use redis::{Cmd, cmd};
use std::collections::{HashMap, HashSet};

/// How many ends are one call, so that Redis is never busy with one for long.
pub(super) const TOGETHER: usize = 64;

/// Which ends go in one call: ordinary ones of the same server, each job once; any other by itself.
pub(super) fn calls(batch: Vec<Finish>) -> Vec<Vec<Finish>> {
    let mut calls: Vec<Vec<Finish>> = Vec::new();
    let mut open: HashMap<ServerId, (usize, HashSet<JobId>)> = HashMap::new();
    for finish in batch {
        let job = finish.ordinary();
        let together = job.and_then(|job| {
            let (place, jobs) = open.get_mut(&job.server)?;
            (jobs.len() < TOGETHER && jobs.insert(job.id)).then_some(*place)
        });
        if let Some(call) = together.and_then(|place| calls.get_mut(place)) {
            call.push(finish);
            continue;
        }
        if let Some(job) = job {
            open.insert(job.server, (calls.len(), HashSet::from([job.id])));
        }
        calls.push(vec![finish]);
    }
    calls
}

/// Ends several tasks of a server's jobs.
pub(super) fn many_command(ends: &[Finish], keys: &Keys, keep: Keep) -> Cmd {
    let events = || ends.iter().filter_map(|end| end.event.as_ref());
    let server = events().next().map(|event| event.record.job.server);
    let server = server.unwrap_or_else(keys::no_server);
    let mut cmd = cmd("EVALSHA");
    cmd.arg(scripts::FINISH_MANY.get_hash())
        .arg(5 + ends.len())
        .arg(keys.open(server))
        .arg(keys.events())
        .arg(keys.unacked())
        .arg(keys.unacked_index())
        .arg(keys.takeovers());
    for end in ends {
        cmd.arg(keys.task_result(&end.task_id));
    }
    cmd.arg(keys.results(server)).arg(keep.seconds());
    for event in events() {
        cmd.arg(event.record.job.id.to_string());
    }
    for end in ends {
        cmd.arg(&end.tags);
    }
    for end in ends {
        cmd.arg(&end.task_id);
    }
    for (end, event) in ends.iter().zip(events()) {
        cmd.arg(keys::queued(event.run))
            .arg(events::kind(&event.record))
            .arg(&event.data)
            .arg(keep.if_any(end.result.as_deref().unwrap_or_default()));
    }
    cmd
}
