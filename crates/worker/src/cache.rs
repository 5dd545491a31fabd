//! Analyses that need not be made again: the same bytes by the same analyzer, whoever sent them.
//!
//! An analysis is a function of the image's bytes, the analyzer and its settings, so a kept one is
//! what a new one would be. It is handed out only to a task whose bytes are at hand and have the right
//! digest, and nothing in the result tells where it is from: an owner learns nothing of others but, by
//! the time it took, that somebody had the same image.

use crate::metrics::{CacheAnswer, CacheCounters};
use imgsys_analysis::{Options, inspect};
use imgsys_queue::{Analyses, QueueError};
use imgsys_types::{Analysis, Analyzer, Digest};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::OwnedMutexGuard;
use tracing::debug;

/// What is known of images, for one analyzer.
#[derive(Debug)]
pub(crate) struct Cache {
    analyses: Analyses,
    analyzer: Analyzer,
    /// What the analyses depend on besides the bytes, as a digest.
    by: String,
    counters: CacheCounters,
    turns: Turns,
}

/// One after the other for the same image: the second finds what the first has made.
#[derive(Debug, Default, Clone)]
struct Turns(Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>);

/// A turn with an image, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    image: Digest,
    held: Option<OwnedMutexGuard<()>>,
}

impl Cache {
    /// A cache of at most so many analyses, of all workers together, in the Redis at this URL.
    pub(crate) fn new(
        url: &str,
        most: usize,
        analyzer: &Analyzer,
        options: &Options,
        counters: CacheCounters,
    ) -> Result<Self, QueueError> {
        Ok(Self {
            analyses: Analyses::new(url, most)?,
            analyzer: analyzer.clone(),
            by: by(analyzer, options),
            counters,
            turns: Turns::default(),
        })
    }

    /// Waits until nobody else here is at this image.
    pub(crate) async fn turn(&self, image: &Digest) -> Turn {
        self.turns.turn(*image).await
    }

    /// What this analyzer has said of the image, if that is kept.
    pub(crate) async fn find(&self, image: &Digest) -> Option<Analysis> {
        let found = self.analyses.get(image, &self.by).await;
        let (answer, found) = match found {
            // Somebody else may have written it; what is not ours is no answer.
            Ok(Some(found)) if found.analyzer == self.analyzer => (CacheAnswer::Hit, Some(found)),
            Ok(_) => (CacheAnswer::Miss, None),
            Err(error) => {
                debug!("looking for an analysis: {error}");
                (CacheAnswer::Error, None)
            }
        };
        self.counters.add(&answer, 1);
        found
    }

    /// Keeps an analysis that was just made.
    pub(crate) async fn keep(&self, image: &Digest, analysis: &Analysis) {
        if let Err(error) = self.analyses.keep(image, &self.by, analysis).await {
            debug!("keeping an analysis: {error}");
        }
    }
}

impl Turns {
    async fn turn(&self, image: Digest) -> Turn {
        let lock = Arc::clone(self.all().entry(image).or_default());
        let mut turn = Turn {
            turns: self.clone(),
            image,
            held: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Digest, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut all = self.turns.all();
        // Whoever waits holds it too.
        if all
            .get(&self.image)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            all.remove(&self.image);
        }
    }
}

/// Whatever changes analyses of the same bytes changes this.
fn by(analyzer: &Analyzer, options: &Options) -> String {
    let version = inspect::VERSION;
    let all = format!("{analyzer:?} {options:?} {version}");
    let digest: [u8; 32] = Sha256::digest(all).into();
    let digest = Digest::from_bytes(digest).to_string();
    digest[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsys_analysis::{Depth, Limits};

    fn image(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    #[test]
    fn what_changes_results_changes_the_key() {
        let analyzer = Analyzer {
            name: "onnx".into(),
            version: "1".into(),
            model: Some(image(1)),
        };
        let options = Options {
            limits: Limits {
                max_pixels: 1,
                max_side: 1,
                max_decode_memory: 1,
            },
            depth: Depth::Full,
            keep_gps: false,
        };
        let newer = Analyzer {
            version: "2".into(),
            ..analyzer.clone()
        };
        let other = Analyzer {
            model: Some(image(2)),
            ..analyzer.clone()
        };
        let gps = Options {
            keep_gps: true,
            ..options
        };
        let keys = [
            by(&analyzer, &options),
            by(&newer, &options),
            by(&other, &options),
            by(&analyzer, &gps),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{place}");
            assert_eq!(key.len(), 16);
        }
    }

    #[tokio::test]
    async fn turns_come_one_after_the_other_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.turn(image(1)).await;
        let other = turns.turn(image(2)).await;
        let mut second = Box::pin(turns.turn(image(1)));
        assert!(futures::poll!(&mut second).is_pending());
        // One who does not wait any longer is in nobody's way.
        let mut gone = Box::pin(turns.turn(image(1)));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        drop(first);
        let second = second.await;
        drop((second, other));
        assert!(turns.all().is_empty());
    }
}
