//! Whether flushes can still be trusted.

use tokio::sync::watch;

/// Turns from sound to broken once, and never back.
#[derive(Debug)]
pub(crate) struct Health(watch::Sender<bool>);

impl Health {
    pub(crate) fn sound() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn is_broken(&self) -> bool {
        *self.0.borrow()
    }

    /// After a failed flush the kernel may have dropped the pages it could not write and call
    /// the next flush a success: only what is read back from the disk counts, so the process
    /// has to start anew.
    pub(crate) fn set_broken(&self, cause: &dyn std::error::Error) {
        if !self.0.send_replace(true) {
            let source = cause.source().map(ToString::to_string);
            tracing::error!(%cause, source, "the store can't trust its disk any more");
        }
    }

    pub(crate) async fn broken(&self) {
        // The sender lives as long as `self`, so this ends only by the turn itself.
        let _ = self.0.subscribe().wait_for(|broken| *broken).await;
    }
}
