//! Workers end.

use super::{How, Mark};
use crate::scene::{LEASE, Scene, Stage, until};
use imgsys_queue::keys::Keys;
use redis::Commands;
use std::time::{Duration, Instant};

/// Analyses take long enough to be interrupted.
pub(super) fn slow(stage: &mut Stage) -> anyhow::Result<()> {
    stage.delay = Duration::from_millis(40);
    stage.pace = Duration::from_millis(60);
    Ok(())
}

fn await_held(scene: &Scene) -> anyhow::Result<()> {
    let keys = Keys::of(&scene.stack().redis().url())?;
    let mut redis = scene.redis()?;
    until("tasks to be held", || {
        Ok(redis.hlen::<_, usize>(keys.unacked())? >= 4)
    })
}

fn mark(how: How, ended: Instant) -> Mark {
    match how {
        How::Kill => Mark::Takeovers(ended + LEASE),
        How::Term => Mark::Answers(ended),
    }
}

pub(super) fn one(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    let Some(worker) = scene.stack().workers().first() else {
        anyhow::bail!("no workers");
    };
    await_held(scene)?;
    how.end(worker);
    let ended = Instant::now();
    // The other one goes on.
    scene.await_answers(20)?;
    worker.start()?;
    Ok(mark(how, ended))
}

pub(super) fn all(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    await_held(scene)?;
    let workers = scene.stack().workers();
    std::thread::scope(|threads| {
        for worker in workers {
            threads.spawn(|| how.end(worker));
        }
    });
    let ended = Instant::now();
    scene.await_accepted(20)?;
    for worker in workers {
        worker.start()?;
    }
    Ok(match how {
        How::Kill => mark(how, ended),
        How::Term => Mark::Answers(Instant::now()),
    })
}
