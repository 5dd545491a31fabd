//! What the bytes are, told by content: names and extensions are anybody's word.

use image::ImageFormat;
use std::fmt;

/// A format that can be analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF.
    Tiff,
}

impl Format {
    /// The names of all formats, for people.
    pub const NAMES: &'static str = "jpeg, png, gif, webp, bmp, tiff";

    /// The name in lower case, as results bear it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }

    pub(crate) const fn codec(self) -> ImageFormat {
        match self {
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Png => ImageFormat::Png,
            Self::Gif => ImageFormat::Gif,
            Self::WebP => ImageFormat::WebP,
            Self::Bmp => ImageFormat::Bmp,
            Self::Tiff => ImageFormat::Tiff,
        }
    }

    /// The format of these bytes, or the name of what they are instead (`a PDF document`).
    pub fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        image_format(bytes).ok_or_else(|| other_content(bytes))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn image_format(bytes: &[u8]) -> Option<Format> {
    let four_at = |at: usize| bytes.get(at..at + 4);
    if bytes.starts_with(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(Format::Gif)
    } else if bytes.starts_with(b"RIFF") && four_at(8) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if bytes.starts_with(b"BM") && is_bmp_header(four_at(14)) {
        Some(Format::Bmp)
    } else if is_tiff(bytes) && raw_photo(bytes).is_none() {
        Some(Format::Tiff)
    } else {
        None
    }
}

/// A text may begin with `BM` too: the length of the second header must be one of those in use.
fn is_bmp_header(length: Option<&[u8]>) -> bool {
    matches!(
        length,
        Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
    )
}

fn is_tiff(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..]
    )
}

/// Cameras' raw files, several of which call themselves TIFF.
fn raw_photo(bytes: &[u8]) -> Option<&'static str> {
    let canon = bytes.starts_with(b"II*\0") && bytes.get(8..10) == Some(b"CR");
    if canon {
        Some("a camera's raw file (CR2)")
    } else if bytes.starts_with(b"FUJIFILMCCD-RAW") {
        Some("a camera's raw file (RAF)")
    } else if bytes.starts_with(b"IIU\0") {
        Some("a camera's raw file (RW2)")
    } else if [b"IIRO", b"IIRS", b"MMOR"]
        .iter()
        .any(|magic| bytes.starts_with(*magic))
    {
        Some("a camera's raw file (ORF)")
    } else if bytes.starts_with(b"FOVb") {
        Some("a camera's raw file (X3F)")
    } else if bytes.starts_with(b"\0MRM") {
        Some("a camera's raw file (MRW)")
    } else {
        None
    }
}

/// How other contents begin.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\0\0\x01\0", "an icon (ICO)"),
    (b"\0\0\x02\0", "a cursor (CUR)"),
    (b"icns", "an icon (ICNS)"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"P4\n", "a Netpbm image"),
    (b"P5\n", "a Netpbm image"),
    (b"P6\n", "a Netpbm image"),
    (b"FLIF", "a FLIF image"),
    (b"AT&TFORM", "a DjVu document"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\x01\xda", "an SGI image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"RIFF", "a RIFF file (sound or video)"),
    (b"OggS", "an Ogg file (sound or video)"),
    (b"ID3", "an MP3 file"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"SQLite format 3\0", "an SQLite database"),
];

fn other_content(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "an empty file";
    }
    let known = BEGINNINGS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic));
    known
        .map(|(_, name)| *name)
        .or_else(|| raw_photo(bytes))
        .or_else(|| media_container(bytes))
        .or_else(|| text(bytes))
        .unwrap_or("a file of an unknown format")
}

/// ISO base media files (HEIC, AVIF, MP4 …) say their brand after `ftyp`.
fn media_container(bytes: &[u8]) -> Option<&'static str> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    Some(match bytes.get(8..12)? {
        b"avif" | b"avis" => "an AVIF image",
        // Brands that HEIC and AVIF share: the compatible brands that follow tell.
        b"mif1" | b"msf1" if has(&bytes[..bytes.len().min(64)], b"avif") => "an AVIF image",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
            "a HEIC image"
        }
        b"crx " => "a camera's raw file (CR3)",
        _ => "a video (MP4 or the like)",
    })
}

fn text(bytes: &[u8]) -> Option<&'static str> {
    const LOOKED_AT: usize = 4096;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("a text file");
    }
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut by looking at the beginning only.
        Err(error) if error.error_len().is_none() && bytes.len() > LOOKED_AT => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text
        .chars()
        .any(|c| c.is_control() && !"\t\n\r\x0c\x1b".contains(c))
    {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with('<') {
        return Some("a text file");
    }
    let lower = text.to_ascii_lowercase();
    let html = ["<!doctype html", "<html", "<head", "<body", "<script"];
    Some(if html.iter().any(|tag| lower.starts_with(tag)) {
        "an HTML page"
    } else if lower.contains("<svg") {
        "an SVG drawing"
    } else if lower.contains("<html") {
        "an HTML page"
    } else if lower.starts_with("<?xml") || lower.starts_with("<!") {
        "an XML document"
    } else {
        "a text file"
    })
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_named_whatever_it_is() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "an empty file"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"PK\x03\x04....", "a ZIP archive"),
            (b"BMW is a maker of cars and engines", "a text file"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
            (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF image"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01", "a camera's raw file (CR3)"),
            (b"\0\0\0\x18ftypisom\0\0\0\x01", "a video (MP4 or the like)"),
            (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file (CR2)"),
            (b"MMOR\0\0\0\x08", "a camera's raw file (ORF)"),
            (b"P6\n1 1\n255\n\0\0\0", "a Netpbm image"),
            (b"II\xbc\x01\x08\0\0\0", "a JPEG XR image"),
            (b"\xef\xbb\xbf  <!DOCTYPE html><p>", "an HTML page"),
            (b"<?xml version=\"1.0\"?>\n<svg/>", "an SVG drawing"),
            (b"<?xml version=\"1.0\"?>\n<a/>", "an XML document"),
            ("grüße".as_bytes(), "a text file"),
            (b"\x01\x02\x03\x04", "a file of an unknown format"),
            (b"RIFF\0\0\0\0WAVE", "a RIFF file (sound or video)"),
            (b"\xff\xd8", "a file of an unknown format"),
        ];
        for (bytes, name) in cases {
            assert_eq!(Format::of(bytes), Err(*name), "{bytes:?}");
        }
    }

    #[test]
    fn a_character_cut_by_the_look_is_no_binary() {
        let text = format!("{}ü and more", "x".repeat(4095));
        assert_eq!(Format::of(text.as_bytes()), Err("a text file"));
    }
}
