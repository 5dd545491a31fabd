//! A thread of its own for what blocks, which is left behind if it does not end in time.

use anyhow::Context;
use std::{thread, time::Duration};
use tokio::{runtime::Handle, sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;

/// How long it may go on when the end was asked for: a transaction under way is finished, but a
/// PostgreSQL or Redis that does not answer is not waited for.
const GRACE: Duration = Duration::from_secs(2);

/// Does this on a thread of its own; `None` if it goes on for longer than it may after `shutdown`.
/// It goes with the process then, as if that had been killed, against which everything is safe.
pub(crate) async fn run<T: Send + 'static>(
    shutdown: &CancellationToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<Option<T>> {
    let (done, outcome) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new()
        .name("persister".into())
        .spawn(move || {
            let _entered = runtime.enter();
            // Nobody waits for it if it was left behind.
            _ = done.send(work());
        })
        .context("starting a thread")?;
    let over = async {
        shutdown.cancelled().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        outcome = outcome => outcome.map(Some).context("its thread has panicked"),
        () = over => Ok(None),
    }
}
