//! What an analysis costs, stage by stage. `cargo bench -p imgsys-analysis`; with the packaged model
//! too if `make model` has made it.

// Criterion makes a public function without a word on it.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use image::{DynamicImage, ImageFormat, RgbImage, imageops::FilterType};
use imgsys_analysis::{
    Classifier, Depth, Limits, Onnx, Options, Simulated, analyze, inspect,
    inspect::{Stage, inspect_in_stages},
    onnx::Settings,
};
use imgsys_types::Digest;
use std::{
    env, fs,
    hint::black_box,
    io::Cursor,
    path::Path,
    path::PathBuf,
    time::{Duration, Instant},
};

const fn options(depth: Depth) -> Options {
    Options {
        limits: Limits {
            max_pixels: 50_000_000,
            max_side: 16_384,
            max_decode_memory: 512 << 20,
        },
        depth,
        keep_gps: false,
    }
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/cat.jpg");
    let cat = image::open(file).map(DynamicImage::into_rgb8);
    let cat = cat.unwrap_or_else(|_| RgbImage::new(451, 300));
    let scaled = |width, height, format: ImageFormat| {
        let image = image::imageops::resize(&cat, width, height, FilterType::CatmullRom);
        let mut bytes = Cursor::new(Vec::new());
        let encoded = image.write_to(&mut bytes, format);
        (
            format!("{format:?} {width}x{height}"),
            encoded.map(|()| bytes.into_inner()).unwrap_or_default(),
        )
    };
    vec![
        scaled(640, 427, ImageFormat::Jpeg),
        scaled(640, 427, ImageFormat::Png),
        scaled(640, 427, ImageFormat::WebP),
        scaled(2560, 1600, ImageFormat::Jpeg),
        scaled(5640, 3172, ImageFormat::Jpeg),
    ]
}

/// The packaged model, if it is in the cache.
fn model() -> Option<Onnx> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let folder = cache.join("imgsys/models/efficientnet-lite0");
    let model = fs::read(folder.join("model.onnx")).ok()?;
    let labels = fs::read_to_string(folder.join("labels.txt")).ok()?;
    Onnx::new(&model, &labels, Settings::default()).ok()
}

/// How long one stage of an inspection takes.
fn time_of(wanted: Stage, bytes: &[u8]) -> Duration {
    let mut begin = Instant::now();
    let mut time = Duration::ZERO;
    let found = inspect_in_stages(black_box(bytes), &options(Depth::Full), |stage| {
        if stage == wanted {
            time = begin.elapsed();
        }
        begin = Instant::now();
    });
    let _ = black_box(found);
    time
}

fn stages(criterion: &mut Criterion) {
    let simulated = Simulated::new(Duration::ZERO);
    let onnx = model();
    for (name, bytes) in samples() {
        let mut group = criterion.benchmark_group(&name);
        group.sample_size(10);
        for depth in [Depth::Header, Depth::Full] {
            group.bench_function(
                BenchmarkId::new("inspect", format!("{depth:?}")),
                |bencher| {
                    bencher.iter(|| inspect(black_box(&bytes), &options(depth)));
                },
            );
        }
        for stage in [Stage::Header, Stage::Decode, Stage::Shrink, Stage::Measure] {
            group.bench_function(BenchmarkId::new("stage", format!("{stage:?}")), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| time_of(stage, &bytes)).sum());
            });
        }
        let sha256 = Digest::from_bytes([0; 32]);
        let mut whole = |name, classifier: &dyn Classifier| {
            group.bench_function(BenchmarkId::new("analyze", name), |bencher| {
                bencher
                    .iter(|| analyze(black_box(&bytes), sha256, &options(Depth::Full), classifier));
            });
        };
        whole("simulated", &simulated);
        if let Some(onnx) = &onnx {
            whole("onnx", onnx);
        }
        group.finish();
    }
}

fn network(criterion: &mut Criterion) {
    let Some(onnx) = model() else {
        return;
    };
    let square = RgbImage::from_pixel(224, 224, image::Rgb([90, 120, 150]));
    criterion.bench_function("network alone", |bencher| {
        bencher.iter(|| onnx.probabilities(black_box(&square)));
    });
}

criterion_group!(benches, stages, network);
criterion_main!(benches);
