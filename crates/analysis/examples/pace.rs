//! How many images a second one thread analyses: `pace MODEL LABELS`, and on standard input lines of a
//! file and the seconds to go on for. For each it prints two numbers: without the model, and with it.
//! Seconds are those of the processor: on a busy machine too they say what an image costs.
//! `bench/analysis` sets them beside what other programs do.

use imgsys_analysis::{
    Classifier, Depth, Limits, Onnx, Options, Simulated, analyze, onnx::Settings,
};
use imgsys_types::Digest;
use std::{error::Error, fs, io, time::Duration};

const OPTIONS: Options = Options {
    limits: Limits {
        max_pixels: 50_000_000,
        max_side: 32_768,
        max_decode_memory: 512 << 20,
    },
    depth: Depth::Full,
    keep_gps: false,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, labels] = &arguments[..] else {
        return Err("pace MODEL LABELS".into());
    };
    let labels = fs::read_to_string(labels)?;
    let onnx = Onnx::new(&fs::read(model)?, &labels, Settings::default())?;
    let simulated = Simulated::new(Duration::ZERO);
    for line in io::stdin().lines() {
        let line = line?;
        let (file, seconds) = line.rsplit_once(' ').ok_or("FILE SECONDS")?;
        let bytes = fs::read(file)?;
        let time = Duration::from_secs_f64(seconds.parse()?);
        let without = pace(&bytes, &simulated, time)?;
        let with = pace(&bytes, &onnx, time)?;
        println!("{without} {with}");
    }
    Ok(())
}

/// How often a second the image is analysed.
fn pace(bytes: &[u8], classifier: &dyn Classifier, time: Duration) -> Result<f64, Box<dyn Error>> {
    let once = || analyze(bytes, Digest::from_bytes([0; 32]), &OPTIONS, classifier);
    once()?;
    let begin = processor_time()?;
    let mut done = 0_u32;
    loop {
        once()?;
        done += 1;
        let taken = processor_time()?.saturating_sub(begin);
        if taken >= time {
            return Ok(f64::from(done) / taken.as_secs_f64());
        }
    }
}

/// How long this thread has run.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let times = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = times.split(' ').next().ok_or("no times")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
