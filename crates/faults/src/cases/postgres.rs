//! PostgreSQL is away, or takes nothing.

use super::{How, Mark};
use crate::scene::Scene;
use anyhow::ensure;
use postgres::{Client, NoTls};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_secs(5);

pub(super) fn again(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    match how {
        How::Kill => scene.stack().postgres().kill(),
        How::Term => scene.stack().postgres().stop(),
    }
    // Answers need no database.
    scene.await_answers(20)?;
    scene.stack().postgres().start()?;
    Ok(Mark::Took(scene.await_rows()?))
}

pub(super) fn away(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    scene.stack().postgres().stop();
    let until = Instant::now() + LONG;
    scene.await_answers(20)?;
    sleep(until.saturating_duration_since(Instant::now()));
    scene.stack().postgres().start()?;
    Ok(Mark::Took(scene.await_rows()?))
}

pub(super) fn frozen(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    scene.stack().postgres().pause()?;
    sleep(SHORT);
    scene.stack().postgres().resume();
    Ok(Mark::Took(scene.await_rows()?))
}

pub(super) fn readonly(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut admin = scene.postgres()?;
    let mut set = |value: &str| -> anyhow::Result<()> {
        admin.execute(
            &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            &[],
        )?;
        admin.execute("SELECT pg_reload_conf()", &[])?;
        Ok(())
    };
    set("on")?;
    sleep(SHORT);
    set("off")?;
    Ok(Mark::Took(scene.await_rows()?))
}

/// Takes every connection that there is, and those that the programs have.
pub(super) fn connections(scene: &Scene) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let mut admin = scene.postgres()?;
    let url = format!("{} application_name=hog", scene.stack().postgres().url());
    let mut hogs = Vec::new();
    let until = Instant::now() + SHORT;
    while Instant::now() < until {
        // Refused once there is none left; the programs' own are ended then.
        while let Ok(hog) = Client::connect(&url, NoTls) {
            hogs.push(hog);
        }
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE usename = 'imgsys' AND application_name <> 'hog'",
            &[],
        )?;
        sleep(Duration::from_millis(5));
    }
    ensure!(hogs.len() > 50, "only {} connections taken", hogs.len());
    drop(hogs);
    Ok(Mark::Took(scene.await_rows()?))
}
