//! What is measured on real pictures: the same in every format, and what has to be remarked.

#![allow(clippy::unwrap_used)]

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use imgsys_analysis::{ColorType, Depth, Flaw, Inspection, Limits, Looks, Options, inspect};
use std::{fs, io::Cursor, path::Path};

const OPTIONS: Options = Options {
    limits: Limits {
        max_pixels: 50_000_000,
        max_side: 32_768,
        max_decode_memory: 512 << 20,
    },
    depth: Depth::Full,
    keep_gps: false,
};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    fs::read(folder.join(name)).unwrap()
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    encode(image, ImageFormat::Png)
}

fn cat() -> DynamicImage {
    image::load_from_memory(&file("cat.jpg")).unwrap()
}

#[track_caller]
fn look(bytes: &[u8]) -> Looks {
    inspect(bytes, &OPTIONS).unwrap().looks.unwrap()
}

fn flags(bytes: &[u8]) -> Vec<String> {
    inspect(bytes, &OPTIONS).unwrap().properties().flags
}

/// An animated WebP that shows one picture and then another.
fn animated_webp(first: &[u8], second: &[u8], width: u32, height: u32) -> Vec<u8> {
    let three = |number: u32| number.to_le_bytes()[..3].to_vec();
    let chunk = |name: &[u8], data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap().to_le_bytes();
        let pad = if data.len() % 2 == 1 { &[0][..] } else { &[] };
        [name, &length, data, pad].concat()
    };
    let (right, bottom) = (three(width - 1), three(height - 1));
    // What follows RIFF's header is the picture's own chunk.
    let frame = |webp: &[u8]| {
        let place = [
            three(0),
            three(0),
            right.clone(),
            bottom.clone(),
            three(100),
        ]
        .concat();
        chunk(b"ANMF", &[&place[..], &[0], &webp[12..]].concat())
    };
    let flags = [2, 0, 0, 0];
    let body = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", &[&flags[..], &right, &bottom].concat()),
        chunk(b"ANIM", &[0; 6]),
        frame(first),
        frame(second),
    ];
    chunk(b"RIFF", &body.concat())
}

#[test]
fn of_an_animated_webp_the_first_frame_is_looked_at() {
    let webp = |image: RgbImage| encode(image, ImageFormat::WebP);
    let cat = cat().into_rgb8();
    let (width, height) = cat.dimensions();
    let white = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let bytes = animated_webp(&webp(cat.clone()), &webp(white), width, height);
    let found = inspect(&bytes, &OPTIONS).unwrap();
    assert_eq!(
        (found.width, found.height, found.frames),
        (width, height, 2)
    );
    let hash = found.looks.and_then(|looks| looks.perceptual_hash).unwrap();
    assert!(hash.distance(look(&png(cat)).perceptual_hash.unwrap()) <= 2);
    let cut = &bytes[..bytes.len() - 20];
    assert!(inspect(cut, &OPTIONS).is_err());
}

#[test]
fn color_type_depth_and_frames_are_those_of_the_file() {
    use ColorType::{Cmyk, Gray, GrayAlpha, Palette, Rgb, RgbAlpha};
    for (name, bytes, expected) in [
        ("jpeg", file("cat.jpg"), (Rgb, 8, 1)),
        ("cmyk", file("cat-cmyk.jpg"), (Cmyk, 8, 1)),
        (
            "grey jpeg",
            encode(cat().into_luma8(), ImageFormat::Jpeg),
            (Gray, 8, 1),
        ),
        ("palette", file("cat-palette.png"), (Palette, 4, 1)),
        ("gray16", file("gray16.png"), (Gray, 16, 1)),
        ("alpha", png(cat().into_rgba8()), (RgbAlpha, 8, 1)),
        (
            "grey alpha",
            png(cat().into_luma_alpha16()),
            (GrayAlpha, 16, 1),
        ),
        ("gif", file("cat-animated.gif"), (Palette, 8, 24)),
        ("tiff", file("multipage.tif"), (Gray, 8, 2)),
        (
            "rgb tiff",
            encode(cat().into_rgb16(), ImageFormat::Tiff),
            (Rgb, 16, 1),
        ),
        ("webp", file("cat.webp"), (Rgb, 8, 1)),
        (
            "webp alpha",
            encode(cat().into_rgba8(), ImageFormat::WebP),
            (RgbAlpha, 8, 1),
        ),
        ("bmp", file("cat-8.bmp"), (Palette, 8, 1)),
        ("bmp", file("cat-24.bmp"), (Rgb, 8, 1)),
    ] {
        let found = inspect(&bytes, &OPTIONS).unwrap();
        let seen = (found.color_type, found.bit_depth, found.frames);
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn one_picture_looks_the_same_in_every_form() {
    let plain = look(&png(cat().into_rgb8()));
    for (name, bytes) in [
        ("jpeg", file("cat.jpg")),
        ("webp", file("cat.webp")),
        ("16 bits", png(cat().into_rgb16())),
        ("opaque", png(cat().into_rgba8())),
        ("tiff", encode(cat().into_rgb16(), ImageFormat::Tiff)),
        ("bmp", encode(cat().into_rgb8(), ImageFormat::Bmp)),
    ] {
        let found = look(&bytes);
        let [a, b] = [&plain, &found].map(|looks| looks.perceptual_hash.unwrap());
        assert!(a.distance(b) <= 2, "{name}: {a} {b}");
        assert!(
            (plain.exposure.mean - found.exposure.mean).abs() < 0.5,
            "{name}"
        );
        let [a, b] = [&plain, &found].map(|looks| looks.sharpness.unwrap());
        assert!((a / b - 1.0).abs() < 0.25, "{name}: {a} {b}");
        assert!(found.flags.is_empty(), "{name}: {:?}", found.flags);
    }
    let larger = cat().resize(902, 600, image::imageops::Triangle);
    let larger = look(&png(larger.into_rgb8())).perceptual_hash.unwrap();
    assert!(plain.perceptual_hash.unwrap().distance(larger) <= 2);
    let other = look(&file("gray16.png")).perceptual_hash.unwrap();
    assert!(plain.perceptual_hash.unwrap().distance(other) > 16);
}

#[test]
fn a_picture_is_looked_at_upright() {
    let hash = |bytes: &[u8]| look(bytes).perceptual_hash.unwrap();
    let turned = hash(&file("cat-turned.jpg"));
    let lying = cat().resize_exact(160, 106, image::imageops::Triangle);
    let upright = hash(&png(lying.rotate90().into_rgb8()));
    assert!(turned.distance(upright) <= 6);
    assert!(turned.distance(hash(&png(lying.into_rgb8()))) > 16);
}

#[test]
fn transparent_pixels_lie_on_white() {
    let clear = RgbaImage::from_pixel(50, 50, Rgba([0, 0, 0, 0]));
    let found = look(&png(clear));
    assert_eq!(found.colors.len(), 1);
    assert_eq!(found.colors[0].rgb, "#ffffff");
    assert!((found.exposure.highlights - 100.0).abs() < f64::EPSILON);
}

#[test]
fn what_is_remarkable_is_flagged() {
    let level = |level: u8| RgbImage::from_pixel(100, 100, Rgb([level; 3]));
    let scaled = |from: u8, part: u16| {
        let mut image = cat().into_rgb8();
        for sample in image.iter_mut() {
            let change = u16::from(*sample) * part / 100;
            *sample = from.saturating_add(u8::try_from(change).unwrap_or(u8::MAX));
        }
        image
    };
    for (name, bytes, expected) in [
        ("cat", file("cat.jpg"), &[][..]),
        ("blurred cat", png(cat().blur(3.0).into_rgb8()), &["blurry"]),
        (
            "dark cat",
            png(scaled(0, 25)),
            &["blurry", "dark", "low_contrast"],
        ),
        (
            "bright cat",
            png(scaled(205, 20)),
            &["blurry", "bright", "low_contrast"],
        ),
        ("black", png(level(0)), &["dark", "flat"]),
        ("grey", png(level(128)), &["flat"]),
        ("white", png(level(255)), &["bright", "flat"]),
        ("1x1", file("1x1.png"), &["dark", "flat"]),
    ] {
        assert_eq!(flags(&bytes), expected, "{name}");
    }
    assert_eq!(look(&png(level(128))).perceptual_hash, None);
}

/// The bytes up to a share of them, and an end marker.
fn cut(bytes: &[u8], percent: usize) -> Vec<u8> {
    let end = bytes.len() * percent / 100;
    [&bytes[..end], b"\xff\xd9"].concat()
}

#[test]
fn a_jpeg_with_an_end_marker_but_not_all_of_its_picture_is_told() {
    let flaw = |bytes: &[u8]| inspect(bytes, &OPTIONS).map(|found: Inspection| found.flaw);
    let gray = encode(cat().into_luma8(), ImageFormat::Jpeg);
    for (name, bytes) in [
        ("baseline", file("cat.jpg")),
        ("progressive", file("cat-progressive.jpg")),
        ("cmyk", file("cat-cmyk.jpg")),
        ("grey", gray),
    ] {
        assert_eq!(flaw(&bytes).unwrap(), None, "{name}");
        for percent in [40, 60] {
            let found = flaw(&cut(&bytes, percent)).unwrap();
            assert_eq!(found, Some(Flaw::Truncated), "{name} at {percent} %");
        }
        assert!(
            flags(&cut(&bytes, 60)).contains(&"truncated".to_owned()),
            "{name}"
        );
    }
    let found = flaw(&cut(&file("cat.jpg"), 95)).unwrap();
    assert_eq!(found, Some(Flaw::Truncated));
}

#[test]
fn a_thumb_hash_is_what_others_make_of_the_picture() {
    // Made with PyPI thumbhash 0.1.2, which ports the reference implementation.
    let pattern = RgbImage::from_fn(40, 20, |x, y| {
        Rgb([x * x / 7, y * y / 2 + x, x * y % 200].map(|level| u8::try_from(level).unwrap()))
    });
    let hash = inspect(&png(pattern), &OPTIONS).unwrap().properties();
    assert_eq!(
        hash.thumb_hash.as_deref(),
        Some("0/cNJJKAdndyiIiIiIbwlA/6Zw==")
    );
}
