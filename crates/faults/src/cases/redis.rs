//! Redis is away, ill, or has forgotten.

use super::{How, Mark};
use crate::scene::Scene;
use anyhow::{Context, ensure};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_secs(5);
/// So many keys take Redis a second or so to read.
const LOAD: u32 = 1_500_000;

fn end(scene: &Scene, how: How) {
    match how {
        How::Kill => scene.stack().redis().kill(),
        How::Term => scene.stack().redis().stop(),
    }
}

fn back(scene: &Scene) -> anyhow::Result<Mark> {
    scene.stack().redis().start()?;
    Ok(Mark::Answers(Instant::now()))
}

pub(super) fn again(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    end(scene, how);
    back(scene)
}

pub(super) fn away(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    end(scene, How::Term);
    sleep(LONG);
    back(scene)
}

pub(super) fn wiped(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    scene.stack().redis().wipe()?;
    Ok(Mark::Answers(Instant::now()))
}

pub(super) fn new_disk(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    end(scene, How::Kill);
    fs::remove_dir_all(scene.dir().join("redis/appendonlydir"))
        .context("removing the append-only file")?;
    back(scene)
}

pub(super) fn frozen(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    scene.stack().redis().pause();
    sleep(SHORT);
    scene.stack().redis().resume();
    Ok(Mark::Answers(Instant::now()))
}

/// What Redis says to PING.
fn ping(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

pub(super) fn loading(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut redis = scene.redis()?;
    // A part at a time, or it would answer nobody meanwhile.
    let piece = "for i = ARGV[1], ARGV[1] + 9999 do redis.call('SET', 'ballast:' .. i, i) end";
    for start in (0..LOAD).step_by(10_000) {
        redis::cmd("EVAL")
            .arg((piece, 0, start))
            .exec(&mut redis)
            .context("filling Redis")?;
    }
    end(scene, How::Kill);
    let (started, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    let socket = scene.dir().join("redis/redis.sock");
    let mark = thread::scope(|threads| {
        threads.spawn(|| {
            while !started.load(Ordering::Relaxed) {
                let loads = ping(&socket).is_ok_and(|line| line.starts_with("-LOADING"));
                seen.fetch_or(loads, Ordering::Relaxed);
                sleep(Duration::from_millis(1));
            }
        });
        let mark = back(scene);
        started.store(true, Ordering::Relaxed);
        mark
    })?;
    ensure!(seen.into_inner(), "Redis was never seen to load");
    Ok(mark)
}

pub(super) fn readonly(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut redis = scene.redis()?;
    // Of nobody: it keeps its data, and waits.
    redis::cmd("REPLICAOF")
        .arg(("127.0.0.1", 1))
        .exec(&mut redis)?;
    sleep(SHORT);
    redis::cmd("REPLICAOF")
        .arg(("NO", "ONE"))
        .exec(&mut redis)?;
    Ok(Mark::Answers(Instant::now()))
}

pub(super) fn oom(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut redis = scene.redis()?;
    let mut limit = |bytes: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg(("SET", "maxmemory", bytes)).exec(&mut redis)
    };
    limit("1")?;
    sleep(SHORT);
    limit("512mb")?;
    Ok(Mark::Answers(Instant::now()))
}

pub(super) fn pubsub(scene: &Scene) -> anyhow::Result<Mark> {
    let mut redis = scene.redis()?;
    let mut cuts = 0;
    for _ in 0..5 {
        scene.await_answers(20)?;
        let killed: i64 = redis::cmd("CLIENT")
            .arg(("KILL", "TYPE", "pubsub"))
            .query(&mut redis)?;
        cuts += killed;
    }
    ensure!(cuts > 0, "nobody was subscribed");
    Ok(Mark::Answers(Instant::now()))
}
