//! Measures how fast the store accepts images of 10 KB from many senders at once.
//!
//! `cargo run --release -p imgsys-store --example accept [DIR]`; DIR must be on the disk that is
//! meant.

use bytes::Bytes;
use imgsys_store::{Durability, Image, Store, StoreOptions};
use imgsys_types::{Digest, Job, JobId, Owner, Priority, Timestamp};
use sha2::{Digest as _, Sha256};
use std::{
    error::Error,
    time::{Duration, Instant},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const SIZE: usize = 10_240;

async fn sender(store: Store, number: u32, images: u32) -> Outcome<Vec<Duration>> {
    let mut took = Vec::new();
    for image in 0..images {
        let mut bytes = vec![0; SIZE];
        let name = [number.to_be_bytes(), image.to_be_bytes()].concat();
        bytes.splice(..name.len(), name);
        let job = Job {
            id: JobId::generate(),
            owner: Owner::local(),
            sha256: Digest::from_bytes(Sha256::digest(&bytes).into()),
            name: format!("{image}.jpg"),
            size: SIZE as u64,
            priority: Priority::default(),
            submitted_at: Timestamp::now(),
            server: store.server_id(),
        };
        let start = Instant::now();
        store.accept(job, Image::Bytes(Bytes::from(bytes))).await?;
        took.push(start.elapsed());
    }
    Ok(took)
}

#[tokio::main]
async fn main() -> Outcome {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let all = tempfile::tempdir_in(&parent)?;
    for (senders, images) in [(1, 500), (8, 200), (64, 100), (512, 20)] {
        for durability in [Durability::Fsync, Durability::None] {
            let store = Store::open(StoreOptions {
                dir: all.path().join(format!("{senders}-{durability:?}")),
                images_dir: None,
                durability,
                direct_io: true,
                min_free: 32 << 20,
            })?;
            let start = Instant::now();
            let tasks: Vec<_> = (0..senders)
                .map(|number| tokio::spawn(sender(store.clone(), number, images)))
                .collect();
            let mut took = Vec::new();
            for task in tasks {
                took.extend(task.await??);
            }
            let count = f64::from(senders * images);
            let rate = count / start.elapsed().as_secs_f64();
            took.sort_unstable();
            println!(
                "{senders:3} at once, {durability:?}: {rate:.0} images/s, middle {:.2?}, 99 in 100 below {:.2?}",
                took[took.len() / 2],
                took[took.len() * 99 / 100],
            );
            store.close().await;
        }
    }
    Ok(())
}
