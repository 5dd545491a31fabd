//! Connections die, and nobody is told.

use super::{Mark, Skipped};
use crate::{
    alone,
    scene::{Between, Scene, Stage},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

pub(super) fn linked(stage: &mut Stage) -> anyhow::Result<()> {
    stage.links = true;
    stage.tokens = false;
    stage.set("server.drain", "1s");
    Ok(())
}

/// Nothing comes through for 4 s; after that new connections work, and those of before never again,
/// though neither side is told.
pub(super) fn vanish(scene: &Scene, between: Between) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let link = scene.link(between)?;
    link.hang()?;
    sleep(Duration::from_secs(4));
    link.strand()?;
    let back = Instant::now();
    match between {
        Between::PersisterRedis | Between::PersisterPostgres => Ok(Mark::Took(scene.await_rows()?)),
        _ => Ok(Mark::Answers(back)),
    }
}

/// A transaction may take as long as it needs, so the persister waits until TCP gives up: that is
/// tried only where packets really vanish.
pub(super) fn vanish_from_persister(scene: &Scene) -> anyhow::Result<Mark> {
    if alone::is_entered() {
        return vanish(scene, Between::PersisterPostgres);
    }
    Err(Skipped("packets can't be dropped: that needs root, nftables and iproute2".into()).into())
}

/// Every connection is closed under the programs, five times.
pub(super) fn cut(scene: &Scene) -> anyhow::Result<Mark> {
    for _ in 0..5 {
        scene.await_answers(20)?;
        for between in Between::ALL {
            scene.link(between)?.cut();
        }
    }
    Ok(Mark::Answers(Instant::now()))
}
