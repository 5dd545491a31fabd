//! An image, looked into down to its last pixel within small limits.
#![no_main]

use imgsys_analysis::{Depth, Limits, Options, inspect};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_pixels: 20_000,
    max_side: 1_000,
    max_decode_memory: 1 << 20,
};

fuzz_target!(|bytes: &[u8]| {
    let options = |depth| Options {
        limits: LIMITS,
        depth,
        keep_gps: true,
    };
    let header = inspect(bytes, &options(Depth::Header));
    let Ok(full) = inspect(bytes, &options(Depth::Full)) else {
        return;
    };
    // The decoder and our own reading of the header agree.
    let header = header.expect("what is sound to its pixels has a sound header");
    assert_eq!((header.width, header.height), (full.width, full.height));
    let pixels = u64::from(full.width) * u64::from(full.height);
    assert!(pixels <= LIMITS.max_pixels && full.width.max(full.height) <= LIMITS.max_side);
    let properties = full.properties();
    let exposure = properties.exposure.expect("it was measured");
    for percent in [exposure.mean, exposure.shadows, exposure.highlights] {
        assert!((0.0..=100.0).contains(&percent), "{percent}");
    }
    assert!(properties.sharpness.is_none_or(|sharpness| sharpness.is_finite() && sharpness >= 0.0));
    assert!(properties.colors.len() <= 5 && properties.flags.is_sorted());
});
