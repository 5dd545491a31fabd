//! What metrics cost: all that a server counts for one image, and a scrape.

// Benchmarks fail by panicking.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use imgsys_service::Metrics;
use std::{hint::black_box, time::Duration};

fn benchmark(criterion: &mut Criterion) {
    let metrics = Metrics::new("bench", "0").unwrap();
    let name = |number: usize| number.to_string();
    let by = |metric: &str| {
        metrics
            .counters_by(metric, "By a label of 24 values", ("code", name), 0..24)
            .unwrap()
    };
    let counters = [by("a_total"), by("b_total"), by("c_total")];
    let plain = metrics.counter("d_total", "Without a label").unwrap();
    let stages = metrics
        .times_by("e_seconds", "By stage", ("stage", name), 0..6)
        .unwrap();
    criterion.bench_function("an image", |bencher| {
        bencher.iter(|| {
            for counter in &counters {
                counter.add(black_box(&0), 1);
            }
            plain.inc();
            for stage in 0..6 {
                stages.observe(black_box(&stage), Duration::from_millis(3));
            }
        });
    });
    criterion.bench_function("a scrape", |bencher| bencher.iter(|| metrics.render()));
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
