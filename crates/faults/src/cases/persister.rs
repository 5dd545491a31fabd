//! The persister ends, at its worst moments.

use super::{How, Mark};
use crate::scene::{Scene, until};
use imgsys_local::Service;
use postgres::Client;

/// Has whoever writes rows wait within his transaction, until this is dropped or released.
pub(super) struct Barrier {
    holder: Client,
    watcher: Client,
}

impl Barrier {
    pub(super) fn raise(scene: &Scene) -> anyhow::Result<Self> {
        let mut holder = scene.postgres()?;
        // Readers pass.
        holder.batch_execute("BEGIN; LOCK TABLE jobs IN SHARE MODE")?;
        Ok(Self {
            holder,
            watcher: scene.postgres()?,
        })
    }

    /// Waits until so many are held up.
    pub(super) fn await_held_up(&mut self, count: i64) -> anyhow::Result<()> {
        until("a transaction to wait", || {
            let query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted";
            Ok(self.watcher.query_one(query, &[])?.get::<_, i64>(0) >= count)
        })
    }

    fn rows(&mut self) -> anyhow::Result<i64> {
        let row = self
            .watcher
            .query_one("SELECT count(*) FROM predictions", &[])?;
        Ok(row.get(0))
    }

    pub(super) fn release(&mut self) -> anyhow::Result<()> {
        Ok(self.holder.batch_execute("COMMIT")?)
    }
}

/// Ends it while something keeps it; `let_go` ends that.
pub(super) fn end(
    persister: &Service,
    how: How,
    let_go: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match how {
        How::Kill => {
            persister.kill();
            let_go()?;
        }
        How::Term => {
            persister.ask_to_stop();
            let_go()?;
            persister.stop();
        }
    }
    Ok(())
}

/// Within a transaction that has not been committed.
pub(super) fn in_batch(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let persister = scene.stack().persister();
    let mut barrier = Barrier::raise(scene)?;
    barrier.await_held_up(1)?;
    end(persister, how, || barrier.release())?;
    persister.start()?;
    Ok(Mark::Took(scene.await_rows()?))
}

/// After the commit, before Redis knows of it.
pub(super) fn before_ack(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let persister = scene.stack().persister();
    let redis = scene.stack().redis();
    let mut barrier = Barrier::raise(scene)?;
    barrier.await_held_up(1)?;
    redis.pause();
    let before = barrier.rows()?;
    barrier.release()?;
    let committed = until("the commit", || Ok(barrier.rows()? > before));
    let ended = committed.and_then(|()| {
        end(persister, how, || {
            redis.resume();
            Ok(())
        })
    });
    redis.resume();
    ended?;
    persister.start()?;
    Ok(Mark::Took(scene.await_rows()?))
}
