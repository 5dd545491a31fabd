//! How much of what the system takes is analysis, when images are real and looked at whole.

use crate::{
    bench::{Bench, FSYNC},
    image::Images,
    load::{self, Until},
    processes,
    report::Row,
    stats::float,
    system::{System, noop},
};
use anyhow::Context;
use image::{codecs::jpeg::JpegEncoder, imageops::FilterType};
use std::sync::Arc;

/// A photograph of 640 × 427 pixels.
const PHOTO: &[u8] = include_bytes!("../../../../samples/rocket.jpg");
/// What cameras make: 11 megapixels, and some megabytes, for there is noise in it.
const SIDES: (u32, u32) = (4032, 2688);
const NOISE: u32 = 12;
const QUALITY: u8 = 90;
/// What a worker's threads are called that decode and inspect.
const THREADS: &str = "analysis-";

/// The share of the processor time of all processes but the load that is the worker's analysis.
pub(super) fn share(bench: &mut Bench) -> anyhow::Result<()> {
    let builder = noop().set("worker.decode", "full");
    let mut system = System::start(FSYNC, builder)?;
    let (repetitions, time) = (bench.options.repetitions, bench.options.time);
    let mut share = 0.0;
    let photos = [
        ("a photograph of 640 × 427 pixels", PHOTO.to_vec(), 16),
        ("a photograph of 4032 × 2688 pixels", enlarged()?, 4),
    ];
    for (name, photo, window) in photos {
        let images = Arc::new(Images::of_file(photo));
        let worker = system.pid("worker")?;
        // Everything gets warm.
        let warm = system.plan(&images, (8, window), Until::Sent(4));
        system.drain(load::put(warm)?.ended)?;
        let before = (system.cpu(), processes::thread_cpu(worker, THREADS));
        let mut ended = 0;
        for _ in 0..repetitions {
            let done = load::put(system.plan(&images, (8, window), Until::After(time)))?.ended;
            system.drain(done)?;
            ended += done;
        }
        let analysis = processes::thread_cpu(worker, THREADS) - before.1;
        let after = system.cpu();
        let all: f64 = after.values().sum::<f64>() - before.0.values().sum::<f64>();
        let parts = after.iter().map(|(part, cpu)| {
            let cpu = cpu - before.0.get(part).unwrap_or(&0.0);
            format!("{part} {:.0}", cpu * 1e6 / float(ended))
        });
        let parts: Vec<_> = parts.collect();
        bench.fact(
            "photos",
            format!(
                "{name} ({} KB) decoded and inspected, {FSYNC}: CPU an image in µs: analysis {:.0}, {}; {:.1} % is analysis",
                images.size() / 1000,
                analysis * 1e6 / float(ended),
                parts.join(", "),
                100.0 * analysis / all
            ),
        );
        share = 100.0 * analysis / all;
    }
    bench.retire(system);
    // The larger one: the smaller is looked at in less time than any image costs.
    let name =
        "decode + inspect on 2 cores, 11 megapixels: share of CPU that is analysis (at least 90 %)";
    bench.put(Row::at_least(name, "%", share, 90.0));
    Ok(())
}

/// The photograph as large as a camera's, in which each pixel has a noise of its own.
fn enlarged() -> anyhow::Result<Vec<u8>> {
    let photo = image::load_from_memory(PHOTO).context("decoding the photograph")?;
    let mut photo = photo
        .resize_exact(SIDES.0, SIDES.1, FilterType::CatmullRom)
        .into_rgb8();
    let mut state = 1_u32;
    for sample in photo.iter_mut() {
        // A linear congruence, whose high bits are random enough.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 16) % NOISE;
        *sample = sample.saturating_add(u8::try_from(noise)?);
    }
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, QUALITY).encode_image(&photo)?;
    Ok(file)
}
