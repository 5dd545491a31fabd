//! What every part of the server holds on to.

use crate::{auth::Tokens, book::Book, metrics::ServerMetrics, quota::Quotas};
use imgsys_history::read::Reader;
use imgsys_proto::message::Rejected;
use imgsys_queue::{Producer, Task};
use imgsys_service::Config;
use imgsys_store::{Store, StoreError};
use imgsys_tls::Identity;
use imgsys_types::{Digest, ErrorCode, Job, JobId, Run, ServerId};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Instant,
};
use tokio::sync::{Notify, Semaphore};

/// Memory for images that are received whole, all connections together, in KiB.
const SMALL_IMAGES_KIB: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) server: ServerId,
    pub(crate) tokens: Tokens,
    /// What the server shows to clients over TLS; without it they are served without.
    pub(crate) tls: Option<Arc<Identity>>,
    pub(crate) store: Store,
    pub(crate) producer: Producer,
    pub(crate) reader: Reader,
    pub(crate) metrics: ServerMetrics,
    pub(crate) quotas: Arc<Quotas>,
    book: Mutex<Book>,
    image_url: String,
    /// There is something to send to Redis, or room for it.
    pub(crate) dispatch: Notify,
    /// There are jobs about which Redis and the database must be asked.
    pub(crate) reconcile: Notify,
    /// There are jobs in Redis without the event of their acceptance.
    pub(crate) untold: Notify,
    pub(crate) connections: AtomicUsize,
    pub(crate) small_images: Arc<Semaphore>,
    /// Held while later runs are accepted: what the database says of a job's newest run must hold
    /// until the next one is in the spool.
    pub(crate) reanalyses: tokio::sync::Mutex<()>,
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        (tokens, tls): (Tokens, Option<Arc<Identity>>),
        store: Store,
        producer: Producer,
        reader: Reader,
        metrics: ServerMetrics,
        book: Book,
    ) -> Result<Self, StoreError> {
        let image_url = config.server.image_url.clone().unwrap_or_else(|| {
            let dir = store.images_dir().display().to_string();
            format!("file://{}/", dir.trim_end_matches('/'))
        });
        let quotas = Arc::new(Quotas::new(store.spent()?));
        Ok(Self {
            server: store.server_id(),
            quotas,
            config,
            tokens,
            tls,
            store,
            producer,
            reader,
            metrics,
            book: Mutex::new(book),
            image_url,
            dispatch: Notify::new(),
            reconcile: Notify::new(),
            untold: Notify::new(),
            connections: AtomicUsize::new(0),
            small_images: Arc::new(Semaphore::new(SMALL_IMAGES_KIB)),
            reanalyses: tokio::sync::Mutex::default(),
            started: Instant::now(),
        })
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        // No statement in the book's methods leaves it half changed when it panics.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where workers fetch an image: by its path below a directory, or by its digest over HTTP.
    fn image_url(&self, sha256: &Digest) -> String {
        let base = &self.image_url;
        let digest = sha256.to_string();
        if base.starts_with("file:") {
            format!("{base}{}/{digest}", &digest[..2])
        } else {
            format!("{base}{digest}")
        }
    }

    /// The task of a run.
    pub(crate) fn task(&self, run: &Run) -> Task {
        Task {
            image_url: self.image_url(&run.job.sha256),
            job: Job {
                priority: run.priority,
                ..run.job.clone()
            },
            run: run.number,
            accepted_at: run.accepted_at,
            checksum: run.checksum,
        }
    }
}

/// A refusal that is about no job.
pub(crate) fn refuse(req: u64, code: ErrorCode, text: impl Into<String>) -> Rejected {
    Rejected {
        req,
        job: None,
        code,
        text: text.into(),
        retry_after_ms: code.is_transient().then_some(1000),
    }
}

/// A refusal of something about this job.
pub(crate) fn refuse_job(
    req: u64,
    job: JobId,
    code: ErrorCode,
    text: impl Into<String>,
) -> Rejected {
    Rejected {
        job: Some(job),
        ..refuse(req, code, text)
    }
}

/// An error and what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether both are the same job: id, owner and digest must all match.
pub(crate) fn is_same(one: &Job, other: &Job) -> bool {
    one.id == other.id && one.owner == other.owner && one.sha256 == other.sha256
}
