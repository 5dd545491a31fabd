//! One task after the other: where is the image, fetch it, analyse it, say how it ended.
//!
//! Tokio's threads only wait here. Files are read, hashed and analysed by one job of the pool, so
//! an image is in memory only while a thread works on it, however many tasks are prefetched.
//! Images from HTTP are fetched ahead, within a budget of memory.

use crate::{
    cache::Cache,
    fetch::{self, Expected, FetchError},
    pool::{Pool, PoolError},
    room::Room,
    source::{Location, Refused, Sources},
};
use async_trait::async_trait;
use imgsys_analysis::{AnalysisError, Classifier, Options};
use imgsys_queue::{Analyze, AnalyzeTask, Verdict};
use imgsys_service::metrics::{Histogram, observe_since};
use imgsys_types::{Analysis, Digest, Failure, FailureReason, Job};
use std::{cell::RefCell, path::Path, sync::Arc, time::Instant};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Memory for images that come over HTTP, in KiB; one image that is larger may have it all.
const HTTP_BUDGET_KIB: u32 = 128 << 10;

thread_local! {
    /// Where this thread reads image files to.
    static ROOM: RefCell<Room> = RefCell::default();
}

/// What is needed to look into an image.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) classifier: Box<dyn Classifier>,
    pub(crate) options: Options,
    /// Whether large files are read past the kernel's cache.
    pub(crate) direct_io: bool,
    /// How long analyses take on their threads.
    pub(crate) took: Histogram,
}

/// Does what tasks ask for.
#[derive(Debug)]
pub(crate) struct Analyst {
    engine: Arc<Engine>,
    sources: Sources,
    /// The largest image, in bytes.
    max_image: u64,
    client: reqwest::Client,
    http_budget: Arc<Semaphore>,
    pool: Pool,
    /// What was analysed before, if that is worth keeping.
    cache: Option<Cache>,
}

/// Why a task has no analysis.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{size} bytes: at most {limit} are allowed")]
    TooLarge { size: u64, limit: u64 },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl Analyst {
    pub(crate) fn new(
        engine: Engine,
        sources: Sources,
        max_image: u64,
        pool: Pool,
        client: reqwest::Client,
        cache: Option<Cache>,
    ) -> Self {
        Self {
            engine: Arc::new(engine),
            sources,
            max_image,
            client,
            http_budget: Arc::new(Semaphore::new(HTTP_BUDGET_KIB as usize)),
            pool,
            cache,
        }
    }

    async fn attempt(&self, task: &AnalyzeTask) -> Result<Analysis, Trouble> {
        let Some(cache) = &self.cache else {
            return self.work(task, None).await;
        };
        let image = &task.job.sha256;
        let _turn = cache.turn(image).await;
        if let Some(known) = cache.find(image).await {
            return self.work(task, Some(known)).await;
        }
        let analysis = self.work(task, None).await?;
        cache.keep(image, &analysis).await;
        Ok(analysis)
    }

    /// Fetches the image, and analyses it unless its analysis is known: that is given only to those
    /// who have the image.
    async fn work(&self, task: &AnalyzeTask, known: Option<Analysis>) -> Result<Analysis, Trouble> {
        let &Job { sha256, size, .. } = &task.job;
        let image = Expected {
            sha256,
            size,
            checksum: task.checksum,
        };
        let begun = task.begun.clone();
        if size > self.max_image {
            let limit = self.max_image;
            return Err(Trouble::TooLarge { size, limit });
        }
        let engine = Arc::clone(&self.engine);
        match self.sources.locate(&task.image_url, &sha256)? {
            Location::Directory(root) => {
                let job = move || {
                    begun.now();
                    engine.analyze_file(&root, &image, known)
                };
                self.pool.run(job).await?
            }
            Location::Http(url) => {
                let kib = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
                let share = kib.clamp(1, HTTP_BUDGET_KIB);
                let budget = Arc::clone(&self.http_budget).acquire_many_owned(share);
                // The budget is never closed.
                let share = budget.await.ok();
                let bytes = fetch::get(&self.client, url, size, self.pool.patience().fetch).await?;
                let job = move || {
                    begun.now();
                    // Held until the bytes are gone, even if nobody waits for the result any more.
                    let _share = share;
                    engine.analyze_bytes(&bytes, sha256, size, known)
                };
                self.pool.run(job).await?
            }
        }
    }
}

impl Engine {
    fn analyze_file(
        &self,
        root: &Path,
        image: &Expected,
        known: Option<Analysis>,
    ) -> Result<Analysis, Trouble> {
        ROOM.with_borrow_mut(|room| {
            let bytes = fetch::read_file(root, image, self.direct_io, room)?;
            let analysis = self.analyze(bytes, image.sha256, known);
            room.tidy();
            analysis
        })
    }

    fn analyze_bytes(
        &self,
        bytes: &[u8],
        sha256: Digest,
        size: u64,
        known: Option<Analysis>,
    ) -> Result<Analysis, Trouble> {
        fetch::verify(bytes, &sha256, size)?;
        self.analyze(bytes, sha256, known)
    }

    fn analyze(
        &self,
        bytes: &[u8],
        sha256: Digest,
        known: Option<Analysis>,
    ) -> Result<Analysis, Trouble> {
        if let Some(known) = known {
            return Ok(known);
        }
        let classifier = &*self.classifier;
        let begun = Instant::now();
        let analysis = imgsys_analysis::analyze(bytes, sha256, &self.options, classifier);
        observe_since(&self.took, begun);
        analysis.map_err(Trouble::Analysis)
    }
}

#[async_trait]
impl Analyze for Analyst {
    async fn analyze(&self, task: AnalyzeTask) -> Verdict {
        let job = &task.job;
        let (id, attempt) = (job.id, task.attempt);
        debug!(job = %id, run = task.run, attempt, alone = task.alone, "task begins");
        let verdict = match self.attempt(&task).await {
            Ok(analysis) => Verdict::Done(analysis),
            Err(trouble) => trouble.verdict(),
        };
        match &verdict {
            Verdict::Done(analysis) => debug!(job = %id, label = analysis.label, "task is done"),
            Verdict::Failed(failure) if failure.reason == FailureReason::AnalyzerError => {
                warn!(job = %id, %failure, "the analyzer broke down");
            }
            Verdict::Failed(failure) => debug!(job = %id, %failure, "task has failed"),
            Verdict::Retry(why) => debug!(job = %id, why, "task is to be tried again"),
        }
        verdict
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn resize(&self, threads: usize) -> Result<(), String> {
        self.pool.resize(threads).map_err(|error| error.to_string())
    }
}

impl Trouble {
    fn verdict(self) -> Verdict {
        let reason = match &self {
            Self::TooLarge { .. } => FailureReason::TooLarge,
            Self::Refused(Refused::Elsewhere | Refused::OtherName { .. })
            | Self::Fetch(FetchError::NoPlainFile(_)) => FailureReason::BadArguments,
            Self::Fetch(FetchError::Missing(_)) => FailureReason::ImageMissing,
            Self::Fetch(FetchError::OtherBytes(_)) => FailureReason::DigestMismatch,
            Self::Analysis(error) => error.reason(),
            Self::Pool(PoolError::Panicked(_)) => FailureReason::AnalyzerError,
            Self::Pool(PoolError::TookTooLong(_)) => FailureReason::Timeout,
            Self::Fetch(FetchError::Away(_))
            | Self::Pool(PoolError::Closed | PoolError::NeverBegun(_)) => {
                return Verdict::Retry(self.to_string());
            }
        };
        Verdict::Failed(Failure::new(reason, self.to_string()))
    }
}
