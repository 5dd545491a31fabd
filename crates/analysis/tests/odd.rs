//! Kinds of files that few programs write any more, and that show the same picture all the same.

#![allow(clippy::unwrap_used)]

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use imgsys_analysis::{Depth, Inspection, Limits, Options, inspect};
use imgsys_types::{Failure, FailureReason};
use std::io::Cursor;

const WIDTH: u16 = 40;
const HEIGHT: u16 = 30;

/// 16 colours that differ in all channels.
fn color(index: u8) -> [u8; 3] {
    [index * 17, 255 - index * 13, index * index]
}

/// The colour at each place, row by row: neither way of turning it over leaves it as it is.
fn indices() -> Vec<u8> {
    let at = |x: u16, y: u16| u8::try_from((x / 3 + y * y / 20) % 16).unwrap();
    let rows = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| at(x, y)));
    rows.collect()
}

fn samples() -> Vec<u8> {
    indices().into_iter().flat_map(color).collect()
}

fn look(bytes: &[u8]) -> Result<Inspection, Failure> {
    let options = Options {
        limits: Limits {
            max_pixels: 1_000_000,
            max_side: 10_000,
            max_decode_memory: 16 << 20,
        },
        depth: Depth::Full,
        keep_gps: false,
    };
    Ok(inspect(bytes, &options)?)
}

fn png(samples: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let image = RgbImage::from_raw(width.into(), height.into(), samples).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::from(image);
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[track_caller]
fn shows_the_picture(name: &str, bytes: &[u8]) {
    let plain = look(&png(samples(), WIDTH, HEIGHT)).unwrap();
    let found = look(bytes).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    assert_eq!((found.width, found.height), (plain.width, plain.height));
    assert_eq!(found.looks, plain.looks, "{name}");
}

/// A bitmap with an information header of 40 bytes.
fn bmp(height: i32, bits: u16, compression: u32, palette: &[u8], pixels: &[u8]) -> Vec<u8> {
    let mut info = 40_u32.to_le_bytes().to_vec();
    info.extend(i32::from(WIDTH).to_le_bytes());
    info.extend(height.to_le_bytes());
    info.extend([1, 0]);
    info.extend(bits.to_le_bytes());
    info.extend(compression.to_le_bytes());
    info.extend([0; 20]);
    bmp_of(&[&info, palette].concat(), pixels)
}

fn bmp_of(headers: &[u8], pixels: &[u8]) -> Vec<u8> {
    let start = u32::try_from(14 + headers.len()).unwrap();
    let length = start + u32::try_from(pixels.len()).unwrap();
    let file = [
        &b"BM"[..],
        &length.to_le_bytes(),
        &[0; 4],
        &start.to_le_bytes(),
    ]
    .concat();
    [&file, headers, pixels].concat()
}

/// All 256 colours that a bitmap of 8 bits may have, blue first, of so many bytes each.
fn bmp_palette(width: usize) -> Vec<u8> {
    let entry = |index: u8| {
        let [r, g, b] = color(index % 16);
        [b, g, r, 0].into_iter().take(width)
    };
    (0..=255).flat_map(entry).collect()
}

fn from_the_bottom() -> Vec<Vec<u8>> {
    let indices = indices();
    let rows = indices.chunks_exact(WIDTH.into()).rev();
    rows.map(<[u8]>::to_vec).collect()
}

/// Runs, each of one pixel, and an end of line; without the end of the picture.
fn run_lengths() -> Vec<u8> {
    let line = |row: Vec<u8>| {
        let mut runs: Vec<u8> = row.into_iter().flat_map(|index| [1, index]).collect();
        runs.extend([0, 0]);
        runs
    };
    from_the_bottom().into_iter().flat_map(line).collect()
}

#[test]
fn bitmaps_of_all_ages() {
    let (height, rows) = (i32::from(HEIGHT), from_the_bottom().concat());
    let os2 = [
        &12_u32.to_le_bytes()[..],
        &WIDTH.to_le_bytes(),
        &HEIGHT.to_le_bytes(),
        &[1, 0, 8, 0],
        &bmp_palette(3),
    ];
    shows_the_picture("OS/2", &bmp_of(&os2.concat(), &rows));
    shows_the_picture("palette", &bmp(height, 8, 0, &bmp_palette(4), &rows));
    let blue_first: Vec<u8> = samples()
        .chunks_exact(3)
        .flat_map(|rgb| rgb.iter().rev().copied())
        .collect();
    shows_the_picture("from the top", &bmp(-height, 24, 0, &[], &blue_first));
    let runs = [run_lengths(), vec![0, 1]].concat();
    shows_the_picture("run lengths", &bmp(height, 8, 1, &bmp_palette(4), &runs));

    let half = &runs[..runs.len() / 2];
    let failure = look(&bmp(height, 8, 1, &bmp_palette(4), half)).unwrap_err();
    assert_eq!(failure.reason, FailureReason::Truncated, "{failure}");
}

/// GIF's packing of palette indices of 8 bits, so plain that codes never grow longer than 9 bits.
fn gif_data(indices: &[u8]) -> Vec<u8> {
    const CLEAR: u32 = 256;
    let codes = indices
        .chunks(250)
        .flat_map(|part| [CLEAR].into_iter().chain(part.iter().map(|&i| i.into())))
        .chain([CLEAR + 1]);
    let (mut bytes, mut kept, mut bits) = (Vec::new(), 0_u32, 0);
    for code in codes {
        kept |= code << bits;
        bits += 9;
        while bits >= 8 {
            bytes.push(kept.to_le_bytes()[0]);
            kept >>= 8;
            bits -= 8;
        }
    }
    bytes.push(kept.to_le_bytes()[0]);
    let mut data = vec![8];
    for block in bytes.chunks(255) {
        data.push(u8::try_from(block.len()).unwrap());
        data.extend(block);
    }
    data.push(0);
    data
}

/// A GIF of one image with a palette of its own, on a screen of this size.
fn gif(screen: (u16, u16), left: u16, top: u16, indices: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let screen: Vec<u8> = numbers(&[screen.0, screen.1]);
    let place: Vec<u8> = numbers(&[left, top, WIDTH, HEIGHT]);
    let palette: Vec<u8> = (0..=255).flat_map(|index| color(index % 16)).collect();
    let parts = [
        b"GIF89a",
        &screen[..],
        &[0x70, 0, 0, 0x2c],
        &place,
        &[0x87],
        &palette,
        &gif_data(indices),
        b"\x3b",
    ];
    parts.concat()
}

#[test]
fn a_gif_whose_palette_is_the_images_own() {
    shows_the_picture("gif", &gif((WIDTH, HEIGHT), 0, 0, &indices()));
    let failure = look(&gif((WIDTH, HEIGHT), 0, 0, &indices()[..500])).unwrap_err();
    assert_eq!(failure.reason, FailureReason::Corrupt, "{failure}");
}

#[test]
fn a_gif_whose_first_image_does_not_fill_the_screen_lies_on_white() {
    let (width, height) = (WIDTH + 20, HEIGHT + 10);
    let mut page = RgbImage::from_pixel(width.into(), height.into(), Rgb([255; 3]));
    let picture = RgbImage::from_raw(WIDTH.into(), HEIGHT.into(), samples()).unwrap();
    image::imageops::replace(&mut page, &picture, 15, 4);
    let page = look(&png(page.into_raw(), width, height)).unwrap();
    let found = look(&gif((width, height), 15, 4, &indices())).unwrap();
    assert_eq!((found.width, found.height), (page.width, page.height));
    assert_eq!(found.looks, page.looks);
}
