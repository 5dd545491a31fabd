//! What a task's way costs without Redis: its message made and read, its end and events too.

// Benchmarks fail by panicking.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use imgsys_queue::{Task, events, measure};
use imgsys_types::{Checksum, JobRecord, arbitrary::typical};
use std::{hint::black_box, time::Duration};

const TAG: &str = "f3a6b0c2-5a0e-4c8e-9d0c-3a1f5b7c9d11";

fn benchmark(criterion: &mut Criterion) {
    let ended = typical();
    let accepted = JobRecord {
        result: None,
        ..ended.clone()
    };
    let result = ended.result.clone().unwrap();
    let task = Task {
        job: ended.job.clone(),
        run: 0,
        accepted_at: ended.job.submitted_at,
        image_url: "file:///var/lib/imgsys/images/c4/c4c4c4c4".into(),
        checksum: Some(Checksum::of(b"abc")),
    };
    let message = measure::message(&task).unwrap();
    let taken = measure::take(&message).unwrap();

    criterion.bench_function("task: message made", |bencher| {
        bencher.iter(|| measure::message(black_box(&task)).unwrap());
    });
    criterion.bench_function("task: message read", |bencher| {
        bencher.iter(|| measure::take(black_box(&message)).unwrap());
    });
    criterion.bench_function("task: end made", |bencher| {
        let result = || result.clone();
        let end = |result| measure::end(black_box(&taken), TAG, result);
        bencher.iter_batched(result, end, BatchSize::SmallInput);
    });
    for (name, record) in [("accepted", &accepted), ("finished", &ended)] {
        let [(_, kind), (_, data)] = events::encode(record).unwrap();
        criterion.bench_function(&format!("event {name}: made"), |bencher| {
            bencher.iter(|| events::encode(black_box(record)).unwrap());
        });
        criterion.bench_function(&format!("event {name}: read"), |bencher| {
            bencher.iter(|| events::decode(black_box(kind.as_bytes()), data.as_bytes()).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = benchmark
}
criterion_main!(benches);
