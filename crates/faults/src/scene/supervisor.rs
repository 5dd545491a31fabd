//! What a service manager does.

use imgsys_local::{Service, Stack};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

/// Starts programs anew that have ended by themselves.
#[derive(Debug)]
pub(super) struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(super) fn start(stack: &Arc<Stack>, more: &[Arc<Service>]) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stack, more, stopped) = (Arc::clone(stack), more.to_vec(), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let services = [stack.server(), stack.persister()]
                        .into_iter()
                        .chain(stack.workers())
                        .chain([stack.redis().service(), stack.postgres().service()])
                        .chain(more.iter().map(|service| &**service));
                    for service in services {
                        // It may end again before it is ready; then it is started once more.
                        if service.exit().is_some() {
                            _ = service.start();
                        }
                    }
                    sleep(Duration::from_millis(50));
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
