//! Real files, sound and broken, and what becomes of each.

#![allow(clippy::unwrap_used)]

use image::{DynamicImage, ImageFormat};
use imgsys_analysis::{
    AnalysisError, Depth, Format, Inspection, Limits, Options, Simulated, analyze,
};
use imgsys_types::{Digest, Failure, FailureReason};
use std::{fs, io::Cursor, path::Path, time::Duration};

const LIMITS: Limits = Limits {
    max_pixels: 50_000_000,
    max_side: 16_384,
    max_decode_memory: 512 << 20,
};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    fs::read(folder.join(name)).unwrap()
}

/// The cat, encoded anew.
fn cat(format: ImageFormat, convert: fn(DynamicImage) -> DynamicImage) -> Vec<u8> {
    let cat = image::load_from_memory(&file("cat.jpg")).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    convert(cat).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn rgb(image: DynamicImage) -> DynamicImage {
    image.into_rgb8().into()
}

fn half(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn but_the_last(mut bytes: Vec<u8>, count: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - count);
    bytes
}

/// The cat as PNG, with a byte of its first IDAT's data changed.
fn png_with_flipped_pixel_byte() -> Vec<u8> {
    let mut bytes = cat(ImageFormat::Png, rgb);
    let idat = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
    bytes[idat + 500] ^= 0x10;
    bytes
}

fn inspect(bytes: &[u8], limits: &Limits, depth: Depth) -> Result<Inspection, AnalysisError> {
    let options = Options {
        limits: *limits,
        depth,
        keep_gps: false,
    };
    imgsys_analysis::inspect(bytes, &options)
}

fn full(bytes: &[u8]) -> Result<Inspection, AnalysisError> {
    inspect(bytes, &LIMITS, Depth::Full)
}

#[test]
fn sound_files_tell_format_and_size_at_both_depths() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let cases = [
        ("cat.jpg", file("cat.jpg"), Format::Jpeg, 451, 300),
        ("cmyk", file("cat-cmyk.jpg"), Format::Jpeg, 160, 106),
        (
            "progressive",
            file("cat-progressive.jpg"),
            Format::Jpeg,
            160,
            106,
        ),
        (
            "turned jpeg",
            file("cat-turned.jpg"),
            Format::Jpeg,
            106,
            160,
        ),
        (
            "turned webp",
            file("cat-turned.webp"),
            Format::WebP,
            106,
            160,
        ),
        ("cat.webp", file("cat.webp"), Format::WebP, 451, 300),
        (
            "lossless",
            file("cat-lossless.webp"),
            Format::WebP,
            160,
            106,
        ),
        ("animated", file("cat-animated.gif"), Format::Gif, 14, 25),
        ("pages", file("multipage.tif"), Format::Tiff, 10, 15),
        ("palette", file("cat-palette.png"), Format::Png, 160, 106),
        ("one pixel", file("1x1.png"), Format::Png, 1, 1),
        ("16-bit grey", file("gray16.png"), Format::Png, 256, 256),
        ("8-bit bmp", file("cat-8.bmp"), Format::Bmp, 160, 106),
        ("24-bit bmp", file("cat-24.bmp"), Format::Bmp, 40, 26),
        ("our jpeg", cat(Jpeg, rgb), Format::Jpeg, 451, 300),
        ("our png", cat(Png, rgb), Format::Png, 451, 300),
        (
            "our gif",
            cat(Gif, |i| i.into_rgba8().into()),
            Format::Gif,
            451,
            300,
        ),
        ("our webp", cat(WebP, rgb), Format::WebP, 451, 300),
        ("our bmp", cat(Bmp, rgb), Format::Bmp, 451, 300),
        ("our tiff", cat(Tiff, rgb), Format::Tiff, 451, 300),
        (
            "16-bit tiff",
            cat(Tiff, |i| i.into_rgb16().into()),
            Format::Tiff,
            451,
            300,
        ),
        (
            "16-bit png",
            cat(Png, |i| i.into_rgb16().into()),
            Format::Png,
            451,
            300,
        ),
        (
            "grey jpeg",
            cat(Jpeg, |i| i.into_luma8().into()),
            Format::Jpeg,
            451,
            300,
        ),
    ];
    for (name, bytes, format, width, height) in cases {
        for depth in [Depth::Header, Depth::Full] {
            let found = inspect(&bytes, &LIMITS, depth).unwrap_or_else(|e| panic!("{name}: {e}"));
            let seen = (found.format, found.width, found.height);
            assert_eq!(seen, (format, width, height), "{name}");
            assert_eq!(found.looks.is_some(), depth == Depth::Full, "{name}");
            assert_eq!(found.flaw, None, "{name}");
        }
    }
}

#[test]
fn bytes_after_the_end_do_no_harm() {
    let mut bytes = file("cat.jpg");
    bytes.extend([0; 3]);
    assert!(full(&bytes).is_ok());
}

#[test]
fn what_is_no_image_is_refused_by_its_name() {
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(5000, 7);
    let cases = [
        (Vec::new(), "an empty file"),
        (b"this is not an image\n".repeat(50), "a text file"),
        (
            b"<!doctype html><script>alert(1)</script>".to_vec(),
            "an HTML page",
        ),
        (zip, "a ZIP archive"),
        (file("svg.png"), "an SVG drawing"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(),
            "a HEIC image",
        ),
        (
            b"\0\0\0\x18ftypavif\0\0\0\0mif1avif".to_vec(),
            "an AVIF image",
        ),
        (b"\0\0\0\x0cJXL \r\n\x87\n".to_vec(), "a JPEG XL image"),
        (b"8BPS\0\x01\0\0\0\0\0\0".to_vec(), "a Photoshop document"),
        (
            b"II*\0\x10\0\0\0CR\x02\0".to_vec(),
            "a camera's raw file (CR2)",
        ),
        (
            b"FUJIFILMCCD-RAW 0201".to_vec(),
            "a camera's raw file (RAF)",
        ),
    ];
    for (bytes, name) in cases {
        let failure = Failure::from(full(&bytes).unwrap_err());
        assert_eq!(
            failure.reason,
            FailureReason::UnsupportedFormat,
            "{failure}"
        );
        assert!(failure.detail.starts_with(name), "{failure}");
        assert!(failure.detail.contains(Format::NAMES), "{failure}");
    }
}

#[test]
fn kinds_of_jpeg_that_nobody_shows_are_named() {
    for (marker, name) in [
        (0xc3, "lossless JPEG"),
        (0xc9, "arithmetic coding"),
        (0xf7, "JPEG-LS"),
    ] {
        let frame = [8, 0, 1, 0, 1, 1, 1, 0x11, 0];
        let bytes = [&[0xff, 0xd8, 0xff, marker, 0, 11], &frame[..]].concat();
        let failure = Failure::from(full(&bytes).unwrap_err());
        assert_eq!(failure.reason, FailureReason::UnsupportedFormat);
        assert!(failure.detail.ends_with(name), "{failure}");
    }
}

/// A TIFF's first directory, of these tags, each with a LONG: NEF, DNG and others are made so.
fn tiff_of(tags: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(u16::try_from(tags.len()).unwrap().to_le_bytes());
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn raw_files_that_call_themselves_tiff_are_not_judged_by_their_preview() {
    let preview = [(254, 1), (256, 160), (257, 120), (273, 8), (279, 1)];
    for (more, name) in [
        ((330, 8), "a camera's raw file, or another that has only"),
        ((50706, 0x0401), "a camera's raw file (DNG)"),
        // A picture as the sensor's colour filters let it through.
        ((262, 32_803), "a camera's raw file"),
    ] {
        let bytes = tiff_of(&[&preview[..], &[more]].concat());
        let failure = Failure::from(full(&bytes).unwrap_err());
        assert_eq!(failure.reason, FailureReason::UnsupportedFormat);
        assert!(failure.detail.contains(name), "{failure}");
    }
}

#[test]
fn files_cut_off_are_told_as_truncated_even_without_decoding() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let gif = cat(Gif, |i| i.into_rgba8().into());
    let cases = [
        ("jpeg, half", half(file("cat.jpg"))),
        ("progressive jpeg, half", half(file("cat-progressive.jpg"))),
        ("jpeg, no end marker", but_the_last(cat(Jpeg, rgb), 2)),
        (
            "jpeg, beginning of the header",
            file("cat.jpg")[..12].to_vec(),
        ),
        ("png, half", half(cat(Png, rgb))),
        ("png, no IEND", but_the_last(cat(Png, rgb), 12)),
        ("png, half an IHDR", cat(Png, rgb)[..20].to_vec()),
        ("gif, half", half(gif.clone())),
        ("gif, no trailer", but_the_last(gif, 1)),
        (
            "animated gif, last frame cut",
            but_the_last(file("cat-animated.gif"), 20),
        ),
        ("webp, half", half(file("cat.webp"))),
        ("webp, one byte", but_the_last(cat(WebP, rgb), 1)),
        ("bmp, half", half(cat(Bmp, rgb))),
        ("8-bit bmp, one row", but_the_last(file("cat-8.bmp"), 160)),
        ("tiff, half", half(cat(Tiff, rgb))),
        ("tiff, half", half(file("multipage.tif"))),
    ];
    for (name, bytes) in cases {
        for depth in [Depth::Header, Depth::Full] {
            let error = inspect(&bytes, &LIMITS, depth).unwrap_err();
            assert_eq!(error.reason(), FailureReason::Truncated, "{name}: {error}");
        }
    }
}

#[test]
fn damaged_files_are_told_as_corrupt() {
    let mut no_chunk = cat(ImageFormat::WebP, rgb);
    no_chunk[12..16].copy_from_slice(b"XXXX");
    let mut circle = file("multipage.tif");
    let ifd = usize::from(u16::from_le_bytes([circle[4], circle[5]]));
    let next = ifd + 2 + 12 * usize::from(circle[ifd]);
    let offset = [circle[4], circle[5], circle[6], circle[7]];
    circle[next..next + 4].copy_from_slice(&offset);
    let cases = [
        ("jpeg magic and noise", file("random.jpg")),
        ("png, a byte changed", png_with_flipped_pixel_byte()),
        ("jpeg without pixels", b"\xff\xd8\xff\xd9".to_vec()),
        ("webp without an image", no_chunk),
        ("tiff in circles", circle),
        ("gif of nothing", b"GIF89a\x01\0\x01\0\0\0\0\x3b".to_vec()),
        ("gif of no size", b"GIF89a\0\0\0\0\0\0\0\x3b".to_vec()),
    ];
    for (name, bytes) in cases {
        let error = full(&bytes).map(|_| name).unwrap_err();
        assert_eq!(error.reason(), FailureReason::Corrupt, "{name}: {error}");
    }
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for name in [
        "bomb-30000x30000-1bit.png",
        "huge-header.png",
        "huge-header.gif",
        "huge-header.bmp",
    ] {
        let sides_allowed = Limits {
            max_side: u32::MAX,
            ..LIMITS
        };
        for limits in [LIMITS, sides_allowed] {
            let failure = Failure::from(inspect(&file(name), &limits, Depth::Full).unwrap_err());
            assert_eq!(failure.reason, FailureReason::TooLarge, "{name}: {failure}");
        }
    }
}

#[test]
fn each_limit_is_reached_and_gone_over() {
    let strip = file("strip-1x20000.png");
    let side = |max_side| inspect(&strip, &Limits { max_side, ..LIMITS }, Depth::Full);
    assert!(side(20_000).is_ok());
    assert!(matches!(
        side(19_999),
        Err(AnalysisError::SideTooLong { .. })
    ));

    let bytes = file("cat.jpg");
    let pixels = |max_pixels| {
        inspect(
            &bytes,
            &Limits {
                max_pixels,
                ..LIMITS
            },
            Depth::Full,
        )
    };
    assert!(pixels(451 * 300).is_ok());
    let error = pixels(451 * 300 - 1).unwrap_err();
    assert!(matches!(error, AnalysisError::TooManyPixels { .. }));

    let memory = |max_decode_memory| {
        let limits = Limits {
            max_decode_memory,
            ..LIMITS
        };
        inspect(&bytes, &limits, Depth::Full)
    };
    assert!(memory(451 * 300 * 3).is_ok());
    let error = memory(451 * 300 * 3 - 1).unwrap_err();
    assert!(matches!(error, AnalysisError::TooMuchMemory { .. }));
    assert_eq!(error.reason(), FailureReason::TooLarge);
}

#[test]
fn an_analysis_names_its_analyzer() {
    let digest = Digest::from_bytes([3; 32]);
    let classifier = Simulated::new(Duration::ZERO);
    let bytes = file("cat.jpg");
    let options = |depth| Options {
        limits: LIMITS,
        depth,
        keep_gps: false,
    };
    let analysis = analyze(&bytes, digest, &options(Depth::Full), &classifier).unwrap();
    assert_eq!(analysis.analyzer.name, "simulated");
    assert_eq!(analysis.analyzer.model, None);
    assert_eq!(analysis.properties.format, "jpeg");
    assert!(Simulated::LABELS.contains(&analysis.label.as_str()));
    let again = analyze(&bytes, digest, &options(Depth::Header), &classifier).unwrap();
    assert_eq!(again.label, analysis.label);
    assert_eq!(again.properties.sharpness, None);
}
