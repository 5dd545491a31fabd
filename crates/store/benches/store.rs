//! What the server's disk costs: an upload of each size, and the spool's commits and reads.

// Benchmarks fail by panicking.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use imgsys_store::{Accepted, Durability, Image, SMALL_IMAGE, Store, StoreOptions};
use imgsys_types::{Digest, Job, JobId, JobResult, arbitrary::typical};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const DURABILITIES: [(&str, Durability); 2] =
    [("none", Durability::None), ("fsync", Durability::Fsync)];

/// Bytes of an image that the server gives to the store at once.
const PIECE: usize = 256 << 10;

/// A store on the disk on which everything else is built.
fn store(durability: Durability) -> (TempDir, Store) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(StoreOptions {
        dir: folder.path().join("spool"),
        images_dir: None,
        durability,
        direct_io: true,
        min_free: 0,
    });
    (folder, store.unwrap())
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
}

fn job(store: &Store, image: &[u8]) -> Job {
    Job {
        id: JobId::generate(),
        sha256: Digest::from_bytes(Sha256::digest(image).into()),
        size: image.len() as u64,
        server: store.server_id(),
        ..typical().job
    }
}

/// An image from its first byte to the moment in which it is accepted.
async fn upload(store: &Store, job: Job, bytes: Bytes) -> Accepted {
    let image = if bytes.len() <= SMALL_IMAGE {
        Image::Bytes(bytes)
    } else {
        let mut upload = store.upload().unwrap();
        for piece in bytes.chunks(PIECE) {
            upload.write(piece).await.unwrap();
        }
        Image::Upload(upload)
    };
    store.accept(job, image).await.unwrap()
}

fn uploads(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("upload");
    for (durability, setting) in DURABILITIES {
        let (_folder, store) = store(setting);
        for (size, bytes) in [("10 KB", 10_000), ("100 KB", 100_000), ("1 MB", 1_000_000)] {
            group.throughput(Throughput::Bytes(bytes));
            let mut image = vec![7; usize::try_from(bytes).unwrap()];
            let mut number = 0_u64;
            group.bench_function(BenchmarkId::new(durability, size), |bencher| {
                bencher.iter_custom(|times| {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        number += 1;
                        image[..8].copy_from_slice(&number.to_le_bytes());
                        let job = job(&store, &image);
                        let (id, digest) = (job.id, job.sha256);
                        let bytes = Bytes::copy_from_slice(&image);
                        let start = Instant::now();
                        let accepted = runtime.block_on(upload(&store, job, bytes));
                        took += start.elapsed();
                        assert!(matches!(
                            accepted,
                            Accepted::New {
                                duplicate: false,
                                ..
                            }
                        ));
                        // What was measured must not fill the disk.
                        store.remove(vec![id]);
                        fs::remove_file(store.image_path(&digest)).unwrap();
                    }
                    took
                });
            });
        }
        runtime.block_on(store.close());
    }
    group.finish();
}

/// Lets so many jobs be accepted at once, end at once, and go at once; how long each took.
async fn life(store: &Store, image: &[u8], jobs: usize) -> [Duration; 3] {
    let result = typical().result.unwrap();
    let jobs: Vec<Job> = (0..jobs).map(|_| job(store, image)).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let start = Instant::now();
    all(jobs, |job| {
        let store = store.clone();
        async move { drop(store.accept(job, Image::Known).await.unwrap()) }
    })
    .await;
    let accepted = start.elapsed();
    let start = Instant::now();
    all(ids.clone(), |id| ended(store.clone(), id, result.clone())).await;
    let ended = start.elapsed();
    let start = Instant::now();
    store.remove(ids);
    store.flush().await.unwrap();
    [accepted, ended, start.elapsed()]
}

async fn ended(store: Store, job: JobId, result: JobResult) {
    store.set_result(job, result).await.unwrap().unwrap();
}

async fn all<T, F: Future<Output = ()> + Send + 'static>(items: Vec<T>, run: impl Fn(T) -> F) {
    let mut tasks: JoinSet<()> = items.into_iter().map(run).collect();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Jobs of an image that is there already: nothing but the spool's own work.
fn commits(criterion: &mut Criterion) {
    let runtime = runtime();
    let image = [7; 512];
    for (durability, setting) in DURABILITIES {
        let (_folder, store) = store(setting);
        let first = upload(&store, job(&store, &image), Bytes::copy_from_slice(&image));
        runtime.block_on(first);
        let steps = ["accepted", "ended", "removed"];
        for (step, name) in steps.into_iter().enumerate() {
            let mut group = criterion.benchmark_group(format!("spool, {durability}: {name}"));
            for jobs in [1, 64, 512] {
                group.throughput(Throughput::Elements(jobs as u64));
                group.bench_function(jobs.to_string(), |bencher| {
                    bencher.iter_custom(|times| {
                        let one = |_| runtime.block_on(life(&store, &image, jobs))[step];
                        (0..times).map(one).sum()
                    });
                });
            }
            group.finish();
        }
        runtime.block_on(store.close());
    }
}

/// What a server does when it starts, and when it is asked about a job.
fn reads(criterion: &mut Criterion) {
    const PENDING: usize = 10_000;
    let runtime = runtime();
    let (_folder, store) = store(Durability::None);
    let image = [7; 512];
    let first = job(&store, &image);
    let id = first.id;
    runtime.block_on(upload(&store, first, Bytes::copy_from_slice(&image)));
    let jobs = (1..PENDING).map(|_| job(&store, &image)).collect();
    runtime.block_on(all(jobs, |job| {
        let store = store.clone();
        async move { drop(store.accept(job, Image::Known).await.unwrap()) }
    }));
    let mut group = criterion.benchmark_group("spool of 10 000");
    group.bench_function("one job read", |bencher| {
        bencher.iter(|| store.get(id).unwrap().unwrap());
    });
    group.throughput(Throughput::Elements(PENDING as u64));
    group.bench_function("all read", |bencher| {
        bencher.iter(|| {
            let mut pending = 0;
            store
                .records(|job| pending += usize::from(!job.has_ended()))
                .unwrap();
            assert_eq!(pending, PENDING);
        });
    });
    group.finish();
    runtime.block_on(store.close());
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = short();
    targets = uploads, commits, reads
}
criterion_main!(benches);
