//! An image's format, header, structure and EXIF, which are read without decoding anything.
#![no_main]

use imgsys_analysis::{Depth, Format, Limits, Options, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // No limit at all: these readers must bear any number.
    let options = Options {
        limits: Limits {
            max_pixels: u64::MAX,
            max_side: u32::MAX,
            max_decode_memory: u64::MAX,
        },
        depth: Depth::Header,
        keep_gps: true,
    };
    match inspect(bytes, &options) {
        Ok(found) => {
            assert_eq!(Format::of(bytes), Ok(found.format));
            assert!(found.width > 0 && found.height > 0 && found.frames > 0);
            assert!(found.looks.is_none() && found.flaw.is_none());
            // What the camera wrote is harmless by now, and fits into a result.
            let exif = format!("{:?}", found.exif);
            assert!(!exif.contains("NaN") && !exif.contains("inf"));
            let texts = found.exif.into_iter();
            for text in texts.flat_map(|exif| [exif.camera, exif.lens, exif.taken_at]).flatten() {
                assert!(text.len() <= 128 && !text.chars().any(char::is_control));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
