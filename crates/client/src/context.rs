//! What every command needs: where the server is, how long to try, where to print.

use crate::{screen::Screen, server::Server};
use std::time::Duration;
use tokio::sync::watch;

/// What every command needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The server to talk to.
    pub(crate) server: Server,
    /// How long to try to connect while nothing was accepted.
    pub(crate) connect_timeout: Duration,
    /// How long to try to connect again, and to repeat requests that are refused for now.
    pub(crate) retry_for: Duration,
    /// Where to print.
    pub(crate) screen: Screen,
    /// True once the user wants the program to end.
    pub(crate) interrupt: watch::Receiver<bool>,
}

impl Context {
    /// Waits for Ctrl-C.
    pub(crate) async fn interrupted(&self) {
        let mut interrupt = self.interrupt.clone();
        if interrupt.wait_for(|&now| now).await.is_err() {
            // Nobody listens to signals, so none will come.
            std::future::pending::<()>().await;
        }
    }
}
