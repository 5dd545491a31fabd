//! What the camera wrote into the file: EXIF (CIPA DC-008), read from its block in place.
//!
//! Anybody can write anything there: texts are made harmless, numbers that make no sense dropped,
//! and no error in it fails an image.

use crate::{
    clean::clean,
    container::{Entry, File},
};
use imgsys_types::{Exif, Gps};

const MAKE: u16 = 0x010f;
const MODEL: u16 = 0x0110;
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
const EXPOSURE_TIME: u16 = 0x829a;
const F_NUMBER: u16 = 0x829d;
const ISO: u16 = 0x8827;
const TAKEN: u16 = 0x9003;
const DIGITIZED: u16 = 0x9004;
const TAKEN_OFFSET: u16 = 0x9011;
const FOCAL_LENGTH: u16 = 0x920a;
const LENS_MAKE: u16 = 0xa433;
const LENS_MODEL: u16 = 0xa434;
const LATITUDE_REF: u16 = 1;
const LATITUDE: u16 = 2;
const LONGITUDE_REF: u16 = 3;
const LONGITUDE: u16 = 4;
const ALTITUDE_REF: u16 = 5;
const ALTITUDE: u16 = 6;

/// A directory's entries by tag, the first of each.
struct Tags<'a> {
    file: File<'a>,
    entries: Vec<Entry>,
}

/// Beyond these a directory is not read: cameras write some dozens.
const MAX_ENTRIES: usize = 512;

impl<'a> Tags<'a> {
    fn at(file: File<'a>, at: u64) -> Self {
        let directory = file.directory(at).ok();
        let entries = directory.into_iter().flat_map(|d| file.entries(d));
        let entries = entries.take(MAX_ENTRIES).map_while(Result::ok).collect();
        Self { file, entries }
    }

    fn entry(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.tag == tag).copied()
    }

    fn number(&self, tag: u16) -> Option<u64> {
        self.file.value(self.entry(tag)?, 0).ok()
    }

    fn fraction(&self, tag: u16, index: u64) -> Option<f64> {
        self.file.fraction(self.entry(tag)?, index)
    }

    fn positive(&self, tag: u16) -> Option<f64> {
        self.fraction(tag, 0).filter(|&value| value > 0.0)
    }

    /// The text up to its first NUL, made harmless.
    fn text(&self, tag: u16) -> Option<String> {
        let bytes = self.file.text(self.entry(tag)?)?;
        let text = bytes.split(|&byte| byte == 0).next()?;
        let text = clean(&String::from_utf8_lossy(text));
        (!text.is_empty()).then_some(text)
    }

    fn directory(&self, tag: u16) -> Option<Tags<'a>> {
        Some(Tags::at(self.file, self.number(tag)?))
    }
}

/// What an EXIF block says, if it says anything. The place only if `keep_gps`.
pub(crate) fn read(block: &[u8], keep_gps: bool) -> Option<Exif> {
    let file = File::of(block);
    let main = Tags::at(file, file.first().ok()?);
    let gps = main.directory(GPS_DIRECTORY).filter(|_| keep_gps);
    let photo = main.directory(EXIF_DIRECTORY);
    let photo = photo.unwrap_or(Tags {
        file,
        entries: Vec::new(),
    });
    let iso = photo.number(ISO).and_then(|iso| u32::try_from(iso).ok());
    let exif = Exif {
        camera: full_name(main.text(MAKE), main.text(MODEL)),
        lens: full_name(photo.text(LENS_MAKE), photo.text(LENS_MODEL)),
        taken_at: taken_at(&photo),
        exposure_time: photo.positive(EXPOSURE_TIME),
        f_number: photo.positive(F_NUMBER),
        iso: iso.filter(|&iso| iso > 0),
        focal_length: photo.positive(FOCAL_LENGTH),
        gps: gps.and_then(|gps| place(&gps)),
    };
    (exif != Exif::default()).then_some(exif)
}

/// Maker and model; many models begin with their maker's name.
fn full_name(make: Option<String>, model: Option<String>) -> Option<String> {
    let (Some(make), Some(model)) = (&make, &model) else {
        return model.or(make);
    };
    let first = |text: &str| text.split(' ').next().unwrap_or_default().to_lowercase();
    Some(if first(make) == first(model) {
        model.clone()
    } else {
        clean(&format!("{make} {model}"))
    })
}

fn taken_at(photo: &Tags<'_>) -> Option<String> {
    let written = photo.text(TAKEN).or_else(|| photo.text(DIGITIZED))?;
    let time = iso_time(&written)?;
    let offset = photo.text(TAKEN_OFFSET).filter(|offset| is_offset(offset));
    Some(time + offset.as_deref().unwrap_or_default())
}

/// `2026:05:01 17:30:00` as `2026-05-01T17:30:00`; a clock that was never set says zeros.
fn iso_time(written: &str) -> Option<String> {
    let (date, time) = written.split_once(' ')?;
    let [year, month, day] = numbers(date)?;
    let [hour, minute, second] = numbers(time)?;
    let exists = year > 0
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && written.len() == "2026:05:01 17:30:00".len();
    exists.then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
}

fn numbers(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split(':').map(|part| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// `+02:00`, `-09:30`.
fn is_offset(text: &str) -> bool {
    let &[b'+' | b'-', h1, h0, b':', m1, m0] = text.as_bytes() else {
        return false;
    };
    let digits = [h1, h0, m1, m0].iter().all(u8::is_ascii_digit);
    digits && (h1, h0) <= (b'1', b'9') && m1 < b'6'
}

fn place(gps: &Tags<'_>) -> Option<Gps> {
    let degrees = |tag, reference, negative: &str, most: f64| {
        let [degrees, minutes, seconds] = [0, 1, 2].map(|index| gps.fraction(tag, index));
        let angle = degrees? + minutes.unwrap_or(0.0) / 60.0 + seconds.unwrap_or(0.0) / 3600.0;
        let angle = if gps.text(reference)? == negative {
            -angle
        } else {
            angle
        };
        (angle.abs() <= most).then_some(angle)
    };
    let below = gps.number(ALTITUDE_REF) == Some(1);
    let altitude = gps.fraction(ALTITUDE, 0);
    Some(Gps {
        latitude: degrees(LATITUDE, LATITUDE_REF, "S", 90.0)?,
        longitude: degrees(LONGITUDE, LONGITUDE_REF, "W", 180.0)?,
        altitude: altitude.map(|metres| if below { -metres } else { metres }),
    })
}

#[cfg(test)]
mod tests;
