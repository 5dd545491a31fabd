//! Old image files go, if the configuration says so. Jobs and results stay.

use crate::shared::{Shared, chain};
use imgsys_store::StoreError;
use imgsys_types::Digest;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Images whose need is in question at once.
const BATCH: usize = 10_000;

/// Looks for old images again and again, until the server ends.
pub(crate) async fn run(shared: Arc<Shared>, keep: Duration, end: CancellationToken) {
    let mut ticks = interval(pause(keep));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let walks = async {
        loop {
            ticks.tick().await;
            match remove_old(&shared, keep).await {
                Ok(0) => {}
                Ok(removed) => info!("removed {removed} images last sent over {keep:?} ago"),
                Err(problem) => warn!("removing old images, again later: {}", chain(&problem)),
            }
        }
    };
    end.run_until_cancelled(walks).await;
}

/// Often enough that an image is kept no more than a tenth too long, but no walk without end.
fn pause(keep: Duration) -> Duration {
    (keep / 10).clamp(Duration::from_secs(1), Duration::from_secs(3600))
}

async fn remove_old(shared: &Shared, keep: Duration) -> Result<usize, StoreError> {
    // Longer than the clock goes back: nothing is that old.
    let Some(before) = SystemTime::now().checked_sub(keep) else {
        return Ok(0);
    };
    let store = shared.store.clone();
    let old = spawn_blocking(move || store.images_before(before));
    let old = old.await.map_err(|_| StoreError::Broken)??;
    let mut removed = 0;
    for images in old.chunks(BATCH) {
        // Jobs in the database are finished: they don't need their images.
        let none = async |_: &[Digest]| Ok::<_, StoreError>(HashSet::new());
        let gone = shared.store.remove_images(images.to_vec(), none).await?;
        shared.metrics.images_removed.inc_by(gone.len() as u64);
        removed += gone.len();
    }
    Ok(removed)
}
