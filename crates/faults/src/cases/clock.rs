//! A program's clock is wrong, and is set while it runs. The machine's own is never touched.

use super::Mark;
use crate::scene::{Scene, Stage, faketime};
use anyhow::ensure;
use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("clock")
}

/// Has this part take its time from a file.
pub(super) fn fake(stage: &mut Stage, part: &str) -> anyhow::Result<()> {
    let library = faketime()?.display().to_string();
    let clock = file(stage.dir());
    fs::write(&clock, "+0\n")?;
    fs::write(stage.dir().join("clock-of"), part)?;
    stage.env(part, "LD_PRELOAD", library);
    stage.env(part, "FAKETIME_TIMESTAMP_FILE", clock.display().to_string());
    stage.env(part, "FAKETIME_CACHE_DURATION", "1");
    // As setting a machine's clock does not.
    stage.env(part, "FAKETIME_DONT_FAKE_MONOTONIC", "1");
    stage.env(part, "DONT_FAKE_MONOTONIC", "1");
    Ok(())
}

/// The times that the part has written are off by an hour, or the case has tried nothing.
fn ensure_faked(scene: &Scene) -> anyhow::Result<()> {
    let query = match part(scene.dir())?.as_str() {
        "server" => "SELECT count(*) FROM jobs WHERE submitted_at > now() + interval '30 min'",
        "persister" => return Ok(()), // It writes no time of its own.
        _ => "SELECT count(*) FROM predictions WHERE finished_at > now() + interval '30 min'",
    };
    let ahead: i64 = scene.postgres()?.query_one(query, &[])?.get(0);
    ensure!(ahead > 0, "the clock was never ahead");
    Ok(())
}

fn part(dir: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(dir.join("clock-of"))?)
}

pub(super) fn back_and_forth(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut back = Instant::now();
    for offset in ["+3600", "-3600", "+0"] {
        fs::write(file(scene.dir()), format!("{offset}\n"))?;
        back = Instant::now();
        // The library looks once a second; then there is a lease and more of the other time.
        sleep(Duration::from_secs(5));
        scene.await_answers(20)?;
    }
    ensure_faked(scene)?;
    Ok(Mark::Answers(back))
}
