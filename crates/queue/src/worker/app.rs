//! The Celery app: the crate's worker loop, with our broker in it.

use super::{Drained, Shared, broker::KombuBroker};
use crate::{QueueError, keys};
use async_trait::async_trait;
use celery::{
    Celery, CeleryBuilder,
    error::CeleryError,
    task::{Request, Task, TaskOptions, TaskResult},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};
use tokio::{net::TcpListener, sync::oneshot};

/// The workers of this process by name. The crate makes a task from nothing but its message, so
/// this is how the task finds the worker that it belongs to.
static WORKERS: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

fn workers<T>(with: impl FnOnce(&mut HashMap<String, Weak<Shared>>) -> T) -> T {
    with(&mut WORKERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps a worker in [`WORKERS`].
struct Registered(String);

impl Registered {
    fn new(shared: &Arc<Shared>) -> Self {
        let name = shared.options.name.clone();
        workers(|workers| workers.insert(name.clone(), Arc::downgrade(shared)));
        Self(name)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        workers(|workers| workers.remove(&self.0));
    }
}

/// What the worker loop knows of messages: the leases under which we hold what they say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Params {
    pub(super) leases: Vec<String>,
}

/// The task `imgsys.analyze`, as the crate sees it.
struct AnalyzeImage {
    request: Request<Self>,
    options: TaskOptions,
}

#[async_trait]
impl Task for AnalyzeImage {
    const NAME: &'static str = keys::TASK;
    const ARGS: &'static [&'static str] = &["leases"];
    const DEFAULTS: TaskOptions = TaskOptions {
        time_limit: None,
        hard_time_limit: None,
        max_retries: None,
        min_retry_delay: None,
        max_retry_delay: None,
        retry_for_unexpected: None,
        acks_late: Some(true),
        content_type: None,
    };
    type Params = Params;
    type Returns = ();

    fn from_request(request: Request<Self>, options: TaskOptions) -> Self {
        Self { request, options }
    }

    fn request(&self) -> &Request<Self> {
        &self.request
    }

    fn options(&self) -> &TaskOptions {
        &self.options
    }

    async fn run(&self, params: Params) -> TaskResult<()> {
        let name = self.request.hostname.as_deref().unwrap_or_default();
        if let Some(worker) = workers(|workers| workers.get(name).and_then(Weak::upgrade)) {
            worker.run_all(&params.leases).await;
        }
        Ok(())
    }

    /// We hold tasks to their limits ourselves, for running over one is an end, not a retry.
    fn time_limit(&self) -> Option<u32> {
        None
    }
}

/// Runs the worker loop until it is to shut down, or until it ends by a signal, and drains.
pub(super) async fn run(shared: &Arc<Shared>, ready: impl FnOnce()) -> Result<Drained, QueueError> {
    let _registered = Registered::new(shared);
    let (consuming, begun) = oneshot::channel();
    let app = build(KombuBroker::new(Arc::clone(shared), consuming)).await?;
    app.register_task::<AnalyzeImage>().await?;
    let app = Arc::new(app);
    let begun = async {
        if begun.await.is_ok() {
            ready();
        }
        std::future::pending::<()>().await;
    };
    // The loop is not asked to end, for that it does only by a signal. It is left standing until
    // all is drained, because its running tasks still report to it. It is part of this future, for a
    // thread of its own would have to be woken for each delivery, and then wake this one.
    let mut consuming = pin!(app.consume());
    let ended = tokio::select! {
        ended = &mut consuming => Some(ended),
        () = begun => None,
        () = shared.control.shutdown.cancelled() => None,
    };
    let mut draining = pin!(shared.drain());
    if let Some(ended) = ended {
        let drained = draining.await;
        return outcome(ended).map(|()| drained);
    }
    tokio::select! {
        drained = &mut draining => Ok(drained),
        ended = consuming => {
            let drained = draining.await;
            outcome(ended).map(|()| drained)
        }
    }
}

/// How the worker loop ended: as it should, unless it says otherwise.
fn outcome(ended: Result<(), CeleryError>) -> Result<(), QueueError> {
    match ended {
        Ok(()) | Err(CeleryError::ForcedShutdown) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The crate's builder insists on a broker of its own making. It connects but says nothing, so it
/// is given a listener that says nothing either, and then loses its place to ours.
async fn build(broker: KombuBroker) -> Result<Celery, QueueError> {
    let name = broker.name().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let decoy = format!("redis://{}", listener.local_addr()?);
    let building = CeleryBuilder::new("imgsys", &decoy)
        .hostname(&name)
        .default_queue(keys::QUEUE)
        .acks_late(true)
        .build();
    let (app, _connection) = tokio::join!(building, listener.accept());
    let mut app = app?;
    app.broker = Box::new(broker);
    Ok(app)
}
