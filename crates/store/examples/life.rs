//! Measures the processor time that the spool takes for a job: accepted, ended, gone. Its image is
//! there already, so that no file of it is written.
//!
//! `cargo run -p imgsys-store --example life [DIR]`; DIR must be on the disk that is meant.

use bytes::Bytes;
use imgsys_store::{Durability, Image, Store, StoreOptions};
use imgsys_types::{
    Analysis, Analyzer, Color, Digest, Exposure, Job, JobId, JobResult, Outcome, Owner, Priority,
    Properties, Score, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::{error::Error, fs, path::Path};
use tokio::{runtime::Builder, task::JoinSet};

type Outcomes<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const IMAGE: &[u8] = b"an image";

fn job(store: &Store) -> Job {
    Job {
        id: JobId::generate(),
        owner: Owner::local(),
        sha256: Digest::from_bytes(Sha256::digest(IMAGE).into()),
        name: "photos/2025/IMG_20251103_174512.jpg".into(),
        size: IMAGE.len() as u64,
        priority: Priority::default(),
        submitted_at: Timestamp::now(),
        server: store.server_id(),
    }
}

fn result() -> JobResult {
    let score = |label: &str, confidence| Score {
        label: label.into(),
        confidence,
    };
    let color = |rgb: &str, share| Color {
        rgb: rgb.into(),
        share,
    };
    JobResult {
        run: 0,
        outcome: Outcome::Done(Analysis {
            analyzer: Analyzer {
                name: "onnx".into(),
                version: "1+01234567".into(),
                model: Some(Digest::from_bytes([0x7e; 32])),
            },
            label: "tabby cat".into(),
            confidence: 85.5,
            scores: vec![score("tabby cat", 85.5), score("tiger cat", 9.25)],
            properties: Properties {
                format: "jpeg".into(),
                width: 1920,
                height: 1080,
                sharpness: Some(412.75),
                exposure: Some(Exposure::default()),
                colors: vec![color("#4a5b3c", 52.5), color("#c8d1d9", 31.25)],
                thumb_hash: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
                ..Properties::default()
            },
        }),
        worker: Some("imgsys@worker-1".into()),
        attempts: 1,
        queued_us: 812,
        analysis_us: 25_431,
        finished_at: Timestamp::now(),
    }
}

/// The time that all threads, and the one that writes, have had on a processor, in microseconds.
fn on_cpu() -> Outcomes<(f64, f64)> {
    let (mut all, mut committer) = (0.0, 0.0);
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        let times = fs::read_to_string(thread.join("schedstat"))?;
        let nanos: f64 = times.split(' ').next().unwrap_or_default().parse()?;
        all += nanos / 1e3;
        if fs::read_to_string(thread.join("comm"))?.starts_with("store-committ") {
            committer += nanos / 1e3;
        }
    }
    Ok((all, committer))
}

async fn all<F: Future<Output = Outcomes> + Send + 'static>(
    lives: impl Iterator<Item = F>,
) -> Outcomes {
    let mut tasks: JoinSet<_> = lives.collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn measure(dir: &Path, durability: Durability, batch: usize, rounds: usize) -> Outcomes {
    let store = Store::open(StoreOptions {
        dir: dir.join(format!("{durability:?}-{batch}")),
        images_dir: None,
        durability,
        direct_io: false,
        min_free: 0,
    })?;
    let first = job(&store);
    store
        .accept(first, Image::Bytes(Bytes::from_static(IMAGE)))
        .await?;
    let mut took = [(0.0, 0.0); 3];
    for round in 0..rounds + rounds / 10 {
        let jobs: Vec<Job> = (0..batch).map(|_| job(&store)).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let results: Vec<_> = ids.iter().map(|id| (*id, result())).collect();
        let mut before = on_cpu()?;
        for (step, took) in took.iter_mut().enumerate() {
            match step {
                0 => {
                    let jobs = jobs.clone().into_iter();
                    all(jobs.map(|job| {
                        let store = store.clone();
                        async move {
                            store.accept(job, Image::Known).await?;
                            Ok(())
                        }
                    }))
                    .await?;
                }
                1 => {
                    let results = results.clone().into_iter();
                    all(results.map(|(id, result)| {
                        let store = store.clone();
                        async move {
                            store.set_result(id, result).await?;
                            Ok(())
                        }
                    }))
                    .await?;
                }
                _ => {
                    store.remove(ids.clone());
                    store.flush().await?;
                }
            }
            let after = on_cpu()?;
            // The first tenth warms up.
            if round >= rounds / 10 {
                took.0 += after.0 - before.0;
                took.1 += after.1 - before.1;
            }
            before = after;
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let jobs = (batch * rounds) as f64;
    let [accepted, ended, gone] = took.map(|(all, thread)| (all / jobs, thread / jobs));
    println!(
        "{durability:?}, {batch:2} at once, µs a job of all threads (of the one that writes): \
         accepted {:.1} ({:.1}), ended {:.1} ({:.1}), gone {:.1} ({:.1}), in all {:.1} ({:.1})",
        accepted.0,
        accepted.1,
        ended.0,
        ended.1,
        gone.0,
        gone.1,
        accepted.0 + ended.0 + gone.0,
        accepted.1 + ended.1 + gone.1,
    );
    store.close().await;
    Ok(())
}

fn main() -> Outcomes {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let all = tempfile::tempdir_in(&parent)?;
    let runtime = Builder::new_current_thread().build()?;
    for durability in [Durability::None, Durability::Fsync] {
        for (batch, rounds) in [(1, 1000), (8, 400), (64, 150)] {
            runtime.block_on(measure(all.path(), durability, batch, rounds))?;
        }
    }
    Ok(())
}
