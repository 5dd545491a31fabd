//! Disks are full, or fail.

use super::Mark;
use crate::scene::{Scene, Stage, until};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const FULL: Duration = Duration::from_secs(4);

pub(super) fn images(stage: &mut Stage) -> anyhow::Result<()> {
    stage.disk("server/images", 128)
}

pub(super) fn spool(stage: &mut Stage) -> anyhow::Result<()> {
    stage.disk("server", 128)?;
    stage.disk("server/images", 128)?;
    // A database that meets a full disk has to be opened anew.
    stage.supervised = true;
    Ok(())
}

pub(super) fn postgres(stage: &mut Stage) -> anyhow::Result<()> {
    stage.disk("postgres", 256)?;
    stage.supervised = true;
    Ok(())
}

pub(super) fn failing(stage: &mut Stage) -> anyhow::Result<()> {
    stage.failing_disk("server")
}

pub(super) fn full(scene: &Scene, name: &str) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let disk = scene.disk(name)?;
    disk.fill()?;
    sleep(FULL);
    disk.empty()?;
    Ok(Mark::Answers(Instant::now()))
}

pub(super) fn postgres_full(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let disk = scene.disk("postgres")?;
    disk.fill()?;
    // Answers need no database.
    scene.await_answers(20)?;
    sleep(FULL);
    disk.empty()?;
    let back = Instant::now();
    until("PostgreSQL to be back", || Ok(scene.postgres().is_ok()))?;
    scene.await_rows()?;
    Ok(Mark::Took(back.elapsed()))
}

/// The server ends when a flush fails, rather than believe that the next one covers it.
pub(super) fn fails(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let (disk, server) = (scene.failing()?, scene.stack().server());
    disk.fail()?;
    until("the server to end", || Ok(server.exit().is_some()))?;
    disk.repair()?;
    server.start()?;
    Ok(Mark::Answers(Instant::now()))
}
