//! What an inspection costs, at both depths. `cargo bench -p imgsys-analysis`

// Criterion makes a public function without a word on it.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{DynamicImage, ImageFormat, RgbImage, imageops::FilterType};
use imgsys_analysis::{Depth, Limits, inspect};
use std::{fs, hint::black_box, io::Cursor, path::Path};

const LIMITS: Limits = Limits {
    max_pixels: 50_000_000,
    max_side: 16_384,
    max_decode_memory: 512 << 20,
};

fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
    let cat = image::load_from_memory(&read("cat.jpg")).map(DynamicImage::into_rgb8);
    let cat = cat.unwrap_or_else(|_| RgbImage::new(451, 300));
    let scaled = |width, height, format| {
        let image = image::imageops::resize(&cat, width, height, FilterType::Triangle);
        let mut bytes = Cursor::new(Vec::new());
        image
            .write_to(&mut bytes, format)
            .map(|()| bytes.into_inner())
            .unwrap_or_default()
    };
    vec![
        ("jpeg 208x138".into(), scaled(208, 138, ImageFormat::Jpeg)),
        ("jpeg 451x300".into(), read("cat.jpg")),
        (
            "jpeg 2560x1703".into(),
            scaled(2560, 1703, ImageFormat::Jpeg),
        ),
        ("png 451x300".into(), scaled(451, 300, ImageFormat::Png)),
        ("webp 451x300".into(), read("cat.webp")),
        ("gif animated".into(), read("cat-animated.gif")),
        ("tiff pages".into(), read("multipage.tif")),
        ("bmp 160x106".into(), read("cat-8.bmp")),
    ]
}

fn depths(criterion: &mut Criterion) {
    for (name, bytes) in samples() {
        let mut group = criterion.benchmark_group(format!("{name}, {} bytes", bytes.len()));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for depth in [Depth::Header, Depth::Full] {
            group.bench_function(format!("{depth:?}"), |bencher| {
                bencher.iter(|| inspect(black_box(&bytes), &LIMITS, depth));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, depths);
criterion_main!(benches);
