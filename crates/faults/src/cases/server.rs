//! The server ends.

use super::{How, Mark};
use crate::{
    client::{Connection, frame, submit},
    images::sample,
    ledger::End,
    scene::{Scene, Stage, until},
};
use std::{fs, time::Instant};

/// Clients that are cut off need not be waited for.
pub(super) fn short_drain(stage: &mut Stage) -> anyhow::Result<()> {
    stage.set("server.drain", "1s");
    Ok(())
}

fn again(scene: &Scene, how: How) -> anyhow::Result<Instant> {
    let server = scene.stack().server();
    how.end(server);
    server.start()?;
    Ok(Instant::now())
}

/// With half of an image on its disk.
pub(super) fn receiving(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    // Larger than what is received whole, and unlike the clients' images.
    let image = sample(u64::MAX, 800);
    let runtime = tokio::runtime::Runtime::new()?;
    let address = scene.stack().address();
    let token = scene.person()?.token.clone();
    let connection = runtime.block_on(async {
        let mut connection = Connection::open(&address, token.as_deref()).await?;
        let bytes = frame(&submit(1, &image, true), &image.bytes)?;
        connection.write_raw(&bytes[..bytes.len() / 2]).await?;
        std::io::Result::Ok(connection)
    })?;
    let incoming = scene.dir().join("server/images/incoming");
    until("half of an image", || {
        let mut files = fs::read_dir(&incoming)?.flatten();
        Ok(files.any(|file| file.metadata().is_ok_and(|found| found.len() > 256 << 10)))
    })?;
    let back = again(scene, how)?;
    drop(connection);
    scene.send(&[image], End::Done)?;
    Ok(Mark::Answers(back))
}

/// With many jobs whose results are not there yet.
pub(super) fn waiting(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    for worker in scene.stack().workers() {
        worker.stop();
    }
    scene.await_accepted(100)?;
    again(scene, how)?;
    for worker in scene.stack().workers() {
        worker.start()?;
    }
    Ok(Mark::Answers(Instant::now()))
}

/// With results on their way to clients.
pub(super) fn sending(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    let mut back = Instant::now();
    for _ in 0..3 {
        scene.await_answers(30)?;
        back = again(scene, how)?;
    }
    Ok(Mark::Answers(back))
}
