//! What frames cost: made, read, and taken from a stream.

// Benchmarks fail by panicking.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imgsys_proto::{
    ClientMessage, FrameReader, PREFIX_LEN, ServerMessage, decode, encode,
    message::{Accepted, JobEnd, Page, Submit},
};
use imgsys_types::arbitrary::typical;
use serde::{Serialize, de::DeserializeOwned};
use std::{hint::black_box, time::Duration};
use tokio::runtime::Builder;

fn both<M: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, message: &M) {
    let mut bytes = Vec::new();
    encode(message, 0, &mut bytes).unwrap();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::with_capacity(bytes.len());
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode(black_box(message), 0, &mut out).unwrap();
        });
    });
    let head = &bytes[PREFIX_LEN..];
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode::<M>(black_box(head)).unwrap());
    });
    group.finish();
}

/// A frame with an image behind it, as the server takes it from a socket.
fn stream(criterion: &mut Criterion, submit: &ClientMessage) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut group = criterion.benchmark_group("submit with its body from a stream");
    for (name, size) in [("10 KB", 10_000), ("100 KB", 100_000), ("1 MB", 1_000_000)] {
        let mut bytes = Vec::new();
        encode(submit, size, &mut bytes).unwrap();
        bytes.resize(bytes.len() + usize::try_from(size).unwrap(), 7);
        group.throughput(Throughput::Bytes(size));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut reader = FrameReader::new(black_box(bytes.as_slice()));
                    let frame = reader.next::<ClientMessage>().await.unwrap();
                    let mut came = 0;
                    while let Some(chunk) = reader.body_chunk().await.unwrap() {
                        came += chunk.len();
                    }
                    (frame, came)
                })
            });
        });
    }
    group.finish();
}

fn benchmark(criterion: &mut Criterion) {
    let record = typical();
    let job = record.job.clone();
    let submit = ClientMessage::Submit(Submit {
        req: 1000,
        job: job.id,
        name: job.name.clone(),
        size: job.size,
        sha256: job.sha256,
        priority: job.priority,
        watch: true,
    });
    both(criterion, "submit", &submit);
    both(
        criterion,
        "accepted",
        &ServerMessage::Accepted(Accepted {
            req: 1000,
            job: job.id,
            duplicate: false,
            submitted_at: job.submitted_at,
        }),
    );
    both(
        criterion,
        "result",
        &ServerMessage::Result(JobEnd {
            job: job.id,
            sha256: job.sha256,
            result: record.result.clone().unwrap(),
        }),
    );
    both(
        criterion,
        "page of 50",
        &ServerMessage::Page(Page {
            req: 1000,
            jobs: vec![record; 50],
            next: None,
            partial: false,
        }),
    );
    stream(criterion, &submit);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = benchmark
}
criterion_main!(benches);
