//! Analyses that workers keep for each other, so that the same image is not analysed twice.
//!
//! Nothing depends on them: what is lost or makes no sense costs an analysis, and no more.

use crate::{
    QueueError,
    keys::Keys,
    link::{Link, timed_out},
    scripts,
};
use imgsys_types::{Analysis, Digest};
use redis::{RedisResult, cmd};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;

/// How long Redis may take: beyond, it is as well to analyse.
const PATIENCE: Duration = Duration::from_secs(2);

/// An analysis as it is kept.
#[derive(Deserialize)]
struct Kept {
    by: String,
    analysis: Analysis,
}

/// The same, to be written.
#[derive(Serialize)]
struct Keep<'a> {
    by: &'a str,
    analysis: &'a Analysis,
}

/// The analyses that are kept in Redis. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Analyses {
    link: Link,
    most: usize,
}

impl Analyses {
    /// The analyses in the Redis at this URL, which need not be up: at most so many of them. Needs a
    /// Tokio runtime.
    pub fn new(url: &str, most: usize) -> Result<Self, QueueError> {
        Ok(Self {
            link: Link::new(url)?,
            most,
        })
    }

    fn keys(&self) -> &Keys {
        self.link.keys()
    }

    /// What was kept of this image under `by`, if anything was that makes sense.
    pub async fn get(&self, image: &Digest, by: &str) -> Result<Option<Analysis>, QueueError> {
        let mut get = cmd("HGET");
        get.arg(self.keys().analyses()).arg(image.to_string());
        let kept: Option<Vec<u8>> = in_time("give an analysis", self.link.query(&get)).await?;
        let kept = kept.and_then(|json| serde_json::from_slice::<Kept>(&json).ok());
        let kept = kept.filter(|kept| kept.by == by);
        Ok(kept.map(|kept| kept.analysis))
    }

    /// Keeps an analysis of this image. `by` says what made it, as exactly as the analysis depends on
    /// it.
    pub async fn keep(
        &self,
        image: &Digest,
        by: &str,
        analysis: &Analysis,
    ) -> Result<(), QueueError> {
        let mut call = scripts::KEEP.prepare_invoke();
        call.key(self.keys().analyses())
            .key(self.keys().analyses_order())
            .arg(image.to_string())
            .arg(serde_json::to_string(&Keep { by, analysis })?)
            .arg(self.most);
        in_time("keep an analysis", self.link.script::<()>(&call)).await
    }
}

async fn in_time<T>(
    doing: &'static str,
    call: impl Future<Output = RedisResult<T>>,
) -> Result<T, QueueError> {
    let answer = timeout(PATIENCE, call).await;
    answer
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(QueueError::unavailable(doing))
}
