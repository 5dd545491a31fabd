//! Blocks made by hand, as cameras write them and as they do not.

use super::*;

/// A tag's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Byte(u8),
    Text(&'a str),
    Short(u16),
    Long(u32),
    Fractions(&'a [(u32, u32)]),
}

use Value::{Byte, Fractions, Long, Short, Text};

/// Writes a block in one byte order.
struct Writer {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn short(&mut self, value: u16) {
        let bytes = [value.to_le_bytes(), value.to_be_bytes()];
        self.bytes.extend(bytes[usize::from(self.big_endian)]);
    }

    fn long(&mut self, value: u32) {
        let bytes = [value.to_le_bytes(), value.to_be_bytes()];
        self.bytes.extend(bytes[usize::from(self.big_endian)]);
    }

    /// A directory at the end, its long values behind it.
    fn directory(&mut self, tags: &[(u16, Value<'_>)]) {
        self.short(u16::try_from(tags.len()).unwrap());
        let mut behind = self.bytes.len() + 12 * tags.len() + 4;
        let mut values = Self {
            big_endian: self.big_endian,
            bytes: Vec::new(),
        };
        for &(tag, value) in tags {
            let mut writer = Self {
                big_endian: self.big_endian,
                bytes: Vec::new(),
            };
            let (kind, count) = match value {
                Byte(byte) => {
                    writer.bytes.push(byte);
                    (1, 1)
                }
                Text(text) => {
                    writer.bytes.extend(text.as_bytes());
                    writer.bytes.push(0);
                    (2, text.len() + 1)
                }
                Short(value) => {
                    writer.short(value);
                    (3, 1)
                }
                Long(value) => {
                    writer.long(value);
                    (4, 1)
                }
                Fractions(fractions) => {
                    for &(part, whole) in fractions {
                        writer.long(part);
                        writer.long(whole);
                    }
                    (5, fractions.len())
                }
            };
            self.short(tag);
            self.short(kind);
            self.long(u32::try_from(count).unwrap());
            let mut bytes = writer.bytes;
            if bytes.len() <= 4 {
                bytes.resize(4, 0);
                self.bytes.extend(bytes);
            } else {
                self.long(u32::try_from(behind).unwrap());
                behind += bytes.len();
                values.bytes.extend(bytes);
            }
        }
        self.long(0);
        self.bytes.extend(values.bytes);
    }
}

/// A block of three directories.
fn block(
    big_endian: bool,
    main: &[(u16, Value<'_>)],
    photo: &[(u16, Value<'_>)],
    gps: &[(u16, Value<'_>)],
) -> Vec<u8> {
    let write = |photo_at: u32, gps_at: u32| {
        let magic: &[u8] = if big_endian { b"MM\0*" } else { b"II*\0" };
        let mut writer = Writer {
            big_endian,
            bytes: magic.to_vec(),
        };
        writer.long(8);
        let pointers = [
            (EXIF_DIRECTORY, Long(photo_at)),
            (GPS_DIRECTORY, Long(gps_at)),
        ];
        writer.directory(&[main, &pointers].concat());
        let photo_at = u32::try_from(writer.bytes.len()).unwrap();
        writer.directory(photo);
        let gps_at = u32::try_from(writer.bytes.len()).unwrap();
        writer.directory(gps);
        (writer.bytes, photo_at, gps_at)
    };
    // Once to see where the directories come to lie.
    let (_, photo_at, gps_at) = write(0, 0);
    write(photo_at, gps_at).0
}

const MAIN: &[(u16, Value<'_>)] = &[(MAKE, Text("Canon")), (MODEL, Text("Canon EOS 5D"))];
const PHOTO: &[(u16, Value<'_>)] = &[
    (EXPOSURE_TIME, Fractions(&[(1, 250)])),
    (F_NUMBER, Fractions(&[(56, 10)])),
    (ISO, Short(400)),
    (TAKEN, Text("2026:05:01 17:30:00")),
    (TAKEN_OFFSET, Text("+02:00")),
    (FOCAL_LENGTH, Fractions(&[(50, 1)])),
    (LENS_MAKE, Text("Sigma")),
    (LENS_MODEL, Text("50mm F1.4")),
];
const GPS: &[(u16, Value<'_>)] = &[
    (LATITUDE_REF, Text("S")),
    (LATITUDE, Fractions(&[(33, 1), (51, 1), (36, 1)])),
    (LONGITUDE_REF, Text("E")),
    (LONGITUDE, Fractions(&[(151, 1), (1236, 100), (0, 1)])),
    (ALTITUDE_REF, Byte(1)),
    (ALTITUDE, Fractions(&[(25, 2)])),
];

#[test]
fn what_cameras_write_is_read_in_both_byte_orders() {
    for big_endian in [false, true] {
        let exif = read(&block(big_endian, MAIN, PHOTO, GPS), true).unwrap();
        assert_eq!(exif.camera.as_deref(), Some("Canon EOS 5D"));
        assert_eq!(exif.lens.as_deref(), Some("Sigma 50mm F1.4"));
        assert_eq!(exif.taken_at.as_deref(), Some("2026-05-01T17:30:00+02:00"));
        assert_eq!(exif.exposure_time, Some(0.004));
        assert_eq!(exif.f_number, Some(5.6));
        assert_eq!((exif.iso, exif.focal_length), (Some(400), Some(50.0)));
        let gps = exif.gps.unwrap();
        assert!((gps.latitude + 33.86).abs() < 1e-9, "{gps:?}");
        assert!((gps.longitude - 151.206).abs() < 1e-9, "{gps:?}");
        assert_eq!(gps.altitude, Some(-12.5));
    }
}

#[test]
fn the_place_is_dropped_unless_it_is_asked_for() {
    let exif = read(&block(false, MAIN, PHOTO, GPS), false).unwrap();
    assert_eq!(exif.gps, None);
    assert!(exif.camera.is_some());
    // A place alone is nothing then.
    assert_eq!(read(&block(false, &[], &[], GPS), false), None);
}

#[test]
fn what_makes_no_sense_is_dropped() {
    let photo = [
        (EXPOSURE_TIME, Fractions(&[(1, 0)])),
        (F_NUMBER, Fractions(&[(0, 1)])),
        (ISO, Short(0)),
        (TAKEN, Text("0000:00:00 00:00:00")),
        (FOCAL_LENGTH, Text("fifty")),
    ];
    let gps = [
        (LATITUDE_REF, Text("N")),
        (LATITUDE, Fractions(&[(91, 1), (0, 1), (0, 1)])),
        (LONGITUDE_REF, Text("E")),
        (LONGITUDE, Fractions(&[(0, 1), (0, 1), (0, 1)])),
    ];
    assert_eq!(read(&block(true, &[], &photo, &gps), true), None);
    for wrong in [
        "2026:13:01 00:00:00",
        "2026:01:32 00:00:00",
        "2026:01:01 24:00:00",
        "2026-01-01T00:00:00",
        "2026:+1:01 00:00:00",
        "yesterday",
    ] {
        assert_eq!(iso_time(wrong), None, "{wrong}");
    }
    for wrong in ["+24:00", "02:00", "+02:60", "Z", "+0200"] {
        assert!(!is_offset(wrong), "{wrong}");
    }
}

#[test]
fn texts_are_made_harmless() {
    let long = "x".repeat(10_000);
    let main = [
        (MAKE, Text("\x1b[31mEvil\x07\u{202e}")),
        (MODEL, Text(&long)),
    ];
    let exif = read(&block(false, &main, &[], &[]), true).unwrap();
    let camera = exif.camera.unwrap();
    assert!(camera.starts_with("[31mEvil xxx"), "{camera:?}");
    assert_eq!(camera.len(), 128);
}

#[test]
fn maker_and_model_are_one_name() {
    for (make, model, expected) in [
        (
            Some("NIKON CORPORATION"),
            Some("NIKON D90"),
            Some("NIKON D90"),
        ),
        (Some("Apple"), Some("iPhone 15"), Some("Apple iPhone 15")),
        (None, Some("X100"), Some("X100")),
        (Some("Fuji"), None, Some("Fuji")),
        (None, None, None),
    ] {
        let [make, model] = [make, model].map(|text| text.map(str::to_owned));
        assert_eq!(full_name(make, model).as_deref(), expected);
    }
}

#[test]
fn no_block_is_too_broken() {
    let whole = block(true, MAIN, PHOTO, GPS);
    for end in 0..whole.len() {
        let _ = read(&whole[..end], true);
    }
    for index in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = whole.clone();
            broken[index] = value;
            let _ = read(&broken, true);
        }
    }
}
