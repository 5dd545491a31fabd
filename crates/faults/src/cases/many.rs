//! Several of a kind, poison, large numbers, everything at once.

use super::{
    How, Mark,
    client::files,
    persister::{self, Barrier},
};
use crate::{
    images::sample,
    ledger::End,
    scene::{Scene, Stage, program, until},
};
use anyhow::{Context, ensure};
use imgsys_local::Service;
use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The width of images that kill workers.
pub const POISON: u32 = 13;

pub(super) fn two_servers(stage: &mut Stage) -> anyhow::Result<()> {
    stage.second_server = true;
    stage.set("server.drain", "1s");
    Ok(())
}

pub(super) fn server_ends(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    let mut back = Instant::now();
    for _ in 0..2 {
        scene.await_answers(30)?;
        let second = scene.more("server-2")?;
        how.end(second);
        // The clients of the other go on.
        scene.await_answers(30)?;
        second.start()?;
        back = Instant::now();
    }
    Ok(Mark::Answers(back))
}

pub(super) fn two_persisters(stage: &mut Stage) -> anyhow::Result<()> {
    stage.second_persister = true;
    Ok(())
}

pub(super) fn persister_ends(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut barrier = Barrier::raise(scene)?;
    barrier.await_held_up(2)?;
    let second = scene.more("persister-2")?;
    persister::end(second, how, || barrier.release())?;
    let took = scene.await_rows()?;
    second.start()?;
    Ok(Mark::Took(took))
}

pub(super) fn poisoned(stage: &mut Stage) -> anyhow::Result<()> {
    stage.poisoned = true;
    stage.supervised = true;
    stage.pace = Duration::from_millis(50);
    Ok(())
}

/// Each costs three workers at most, and is set aside then.
pub(super) fn poison(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let images: Vec<_> = (0..3).map(|number| sample(number, POISON)).collect();
    scene.send(&images, End::Condemned)?;
    Ok(Mark::Nothing)
}

pub(super) fn large(stage: &mut Stage) -> anyhow::Result<()> {
    stage.in_flight = 2_500;
    stage.pace = Duration::from_millis(1);
    stage.delay = Duration::ZERO;
    Ok(())
}

pub(super) fn queued(scene: &Scene) -> anyhow::Result<Mark> {
    let stack = scene.stack();
    for worker in stack.workers() {
        worker.kill();
    }
    let ledger = scene.ledger();
    until("10 000 jobs to be queued", || {
        Ok(ledger.accepted_count() - ledger.answered_count() >= 10_000)
    })?;
    let programs: Vec<&Service> = [stack.server(), stack.persister()]
        .into_iter()
        .chain(stack.workers())
        .collect();
    for program in &programs {
        program.kill();
    }
    stack.redis().kill();
    stack.postgres().kill();
    let start = Instant::now();
    thread::scope(|threads| -> anyhow::Result<()> {
        let mut starts = vec![
            threads.spawn(|| stack.redis().start()),
            threads.spawn(|| stack.postgres().start()),
        ];
        for program in programs {
            starts.push(threads.spawn(|| program.start()));
        }
        for start in starts {
            start
                .join()
                .unwrap_or_else(|_| unreachable!("starting does not panic"))?;
        }
        Ok(())
    })?;
    Ok(Mark::Answers(start))
}

pub(super) fn rolling_stage(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tokens = false;
    stage.set("server.drain", "2s");
    Ok(())
}

/// Every program in turn, while people use `imgsys`.
pub(super) fn rolling(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let folder = scene.dir().join("pictures");
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let person = threads.spawn(|| use_imgsys(scene, &folder, &done));
        let restarted = restart_all(scene);
        done.store(true, Ordering::Relaxed);
        let used = person.join();
        restarted?;
        used.unwrap_or_else(|_| anyhow::bail!("the client panicked"))
    })?;
    Ok(Mark::Nothing)
}

fn restart_all(scene: &Scene) -> anyhow::Result<()> {
    let stack = scene.stack();
    for service in [stack.server(), stack.persister()]
        .into_iter()
        .chain(stack.workers())
    {
        scene.await_answers(40)?;
        service.restart()?;
    }
    scene.await_answers(40)?;
    stack.redis().stop();
    stack.redis().start()?;
    scene.await_answers(40)?;
    stack.postgres().stop();
    stack.postgres().start()?;
    scene.await_answers(40)
}

/// Sends a few images again and again, and must never see an error.
fn use_imgsys(scene: &Scene, folder: &std::path::Path, done: &AtomicBool) -> anyhow::Result<()> {
    let mut round = 0;
    while !done.load(Ordering::Relaxed) || round == 0 {
        let folder = folder.join(round.to_string());
        let samples = files(&folder, 1_000 + round * 10, 10)?;
        let sent = Command::new(program("imgsys")?)
            .args([
                "--server",
                &scene.stack().address(),
                "--quiet",
                "send",
                "--json",
            ])
            .arg(&folder)
            .output()
            .context("starting imgsys")?;
        let (out, errors) = (
            String::from_utf8_lossy(&sent.stdout),
            String::from_utf8_lossy(&sent.stderr),
        );
        ensure!(sent.status.success(), "imgsys send: {errors}{out}");
        ensure!(errors.is_empty(), "imgsys send said: {errors}");
        super::client::enter_answers(scene, samples, &out)?;
        round += 1;
    }
    Ok(())
}
