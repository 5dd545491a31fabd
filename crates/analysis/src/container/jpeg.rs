//! JPEG (ITU-T T.81): `FF` and a marker, most with a length and a payload; after a scan's header
//! the entropy-coded data, in which `FF` is followed by `00` or a restart marker.

use super::{ColorType, Flaw, Header, Scan, exif_block, exif_orientation};

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DRI: u8 = 0xdd;
/// The frame header of ITU-T T.87.
const JPEG_LS: u8 = 0xf7;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
/// Stands alone, and means nothing.
const TEM: u8 = 0x01;

/// The markers that follow each other, data between them passed over.
struct Segments<'a> {
    bytes: Scan<'a>,
    /// Restart markers passed over.
    restarts: u64,
}

struct Segment<'a> {
    marker: u8,
    payload: &'a [u8],
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Scan::at(bytes, 2, "a segment"),
            restarts: 0,
        }
    }

    /// The next segment; `None` at the end of the bytes.
    fn next(&mut self) -> Result<Option<Segment<'a>>, Flaw> {
        let Some(marker) = self.next_marker() else {
            return Ok(None);
        };
        if matches!(marker, SOI | EOI | TEM) {
            return Ok(Some(Segment {
                marker,
                payload: &[],
            }));
        }
        let length = usize::from(self.bytes.u16_be()?);
        let Some(length) = length.checked_sub(2) else {
            return Err(Flaw::corrupt("a segment's length is below 2"));
        };
        if marker == APP0 && length > self.bytes.rest().len() {
            let name = self.bytes.rest().get(..4);
            if name.is_some_and(|name| !matches!(name, b"JFIF" | b"JFXX" | b"AVI1" | b"CIFF")) {
                return Err(Flaw::corrupt("its first segment is none of JPEG's"));
            }
        }
        let payload = self.bytes.take(length)?;
        Ok(Some(Segment { marker, payload }))
    }

    fn next_marker(&mut self) -> Option<u8> {
        loop {
            let rest = self.bytes.rest();
            let at = memchr::memchr(0xff, rest)?;
            let marker = *rest.get(at + 1)?;
            let is_restart = matches!(marker, 0xd0..=0xd7);
            self.restarts += u64::from(is_restart);
            let is_data = is_restart || marker == 0;
            // Any number of FF may precede a marker: the last of them counts.
            let skipped = if marker == 0xff { at + 1 } else { at + 2 };
            self.bytes.take(skipped).ok()?;
            if !is_data && marker != 0xff {
                return Some(marker);
            }
        }
    }
}

pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, Flaw> {
    let mut segments = Segments::of(bytes);
    let mut exif = None;
    while let Some(Segment { marker, payload }) = segments.next()? {
        match marker {
            APP1 if payload.starts_with(b"Exif\0\0") => {
                exif.get_or_insert(exif_block(payload));
            }
            marker if is_frame_header(marker) => {
                return frame_header(marker, payload, exif);
            }
            JPEG_LS => return Err(Flaw::unsupported("JPEG-LS")),
            SOS | EOI => return Err(Flaw::corrupt("there is no frame header before the pixels")),
            _ => {}
        }
    }
    Err(Flaw::truncated("it ends before the frame header"))
}

/// SOF0 to SOF15; three of their numbers mean something else.
const fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

fn frame_header<'a>(
    marker: u8,
    payload: &[u8],
    exif: Option<&'a [u8]>,
) -> Result<Header<'a>, Flaw> {
    let progressive = match marker {
        0xc0 | 0xc1 => false,
        0xc2 => true,
        0xc3 | 0xc7 | 0xcb | 0xcf => return Err(Flaw::unsupported("lossless JPEG")),
        0xc9..=0xce => return Err(Flaw::unsupported("arithmetic coding")),
        _ => return Err(Flaw::unsupported("hierarchical JPEG")),
    };
    let &[precision, h1, h0, w1, w0, components, ..] = payload else {
        return Err(Flaw::corrupt("its frame header is too short"));
    };
    if precision != 8 {
        return Err(Flaw::unsupported(format!("{precision} bits a sample")));
    }
    let color_type = match components {
        1 => ColorType::Gray,
        4 => ColorType::Cmyk,
        _ => ColorType::Rgb,
    };
    let components = u64::from(components);
    // Progressive: all coefficients are kept, 16 bits each. Three bytes is what comes out.
    let coefficients = if progressive { 2 * components } else { 0 };
    Ok(Header {
        width: u16::from_be_bytes([w1, w0]).into(),
        height: u16::from_be_bytes([h1, h0]).into(),
        bytes_per_pixel: components.clamp(1, 3) + coefficients,
        orientation: exif_orientation(exif),
        color_type,
        bit_depth: precision,
        exif,
    })
}

/// The end marker must follow at least one scan. What comes after it is nobody's concern.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), Flaw> {
    survey(bytes).map(|_| ())
}

/// What a walk over all of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Where the end marker is.
    pub(crate) end: usize,
    /// Whether all scans and restart markers are there that the picture needs. An end marker alone
    /// proves nothing: some programs put one at the end of what they have got.
    pub(crate) has_all: bool,
    /// Whether it is one scan from end to end, all bits of all components at once.
    pub(crate) is_plain: bool,
}

/// Walks over the whole of a JPEG.
pub(super) fn survey(bytes: &[u8]) -> Result<Survey, Flaw> {
    let mut segments = Segments::of(bytes);
    let mut progress = Progress::default();
    let mut scans = 0;
    while let Some(Segment { marker, payload }) = segments.next()? {
        progress.end_scan(segments.restarts);
        match marker {
            SOS => {
                scans += 1;
                progress.begin_scan(payload, segments.restarts);
            }
            DRI => progress.interval = Scan::at(payload, 0, "DRI").u16_be()?.into(),
            EOI if scans > 0 => {
                return Ok(Survey {
                    end: bytes.len() - segments.bytes.rest().len() - 2,
                    has_all: progress.has_all(),
                    is_plain: scans == 1
                        && !progress.progressive
                        && progress.interval == 0
                        && segments.restarts == 0,
                });
            }
            EOI => return Err(Flaw::corrupt("it has no pixels' data")),
            marker if is_frame_header(marker) => progress.begin_frame(marker, payload),
            _ => {}
        }
    }
    Err(Flaw::truncated("its end marker is missing"))
}

/// A component of the picture, and which of its 64 coefficients have come to their last bit.
struct Component {
    id: u8,
    across: u64,
    down: u64,
    came: u64,
}

/// What has come of the picture so far.
#[derive(Default)]
struct Progress {
    width: u64,
    height: u64,
    progressive: bool,
    components: Vec<Component>,
    /// Units (MCUs) between restart markers; 0 for none.
    interval: u64,
    /// Restart markers that there must be when the scan ends.
    due: Option<u64>,
    lacks_restarts: bool,
}

impl Progress {
    fn begin_frame(&mut self, marker: u8, payload: &[u8]) {
        let &[_, h1, h0, w1, w0, _, ref components @ ..] = payload else {
            return;
        };
        self.width = u16::from_be_bytes([w1, w0]).into();
        self.height = u16::from_be_bytes([h1, h0]).into();
        self.progressive = marker == 0xc2;
        let component = |bytes: &[u8]| Component {
            id: bytes[0],
            across: u64::from(bytes[1] >> 4).max(1),
            down: u64::from(bytes[1] & 15).max(1),
            came: 0,
        };
        self.components = components.chunks_exact(3).map(component).collect();
    }

    fn begin_scan(&mut self, payload: &[u8], restarts: u64) {
        let Some((&count, rest)) = payload.split_first() else {
            return;
        };
        let Some((scanned, &[first, last, approximation, ..])) =
            rest.split_at_checked(2 * usize::from(count))
        else {
            return;
        };
        let came = match (self.progressive, approximation & 15) {
            (false, _) => u64::MAX,
            (true, 0) => (first..=last.min(63)).fold(0, |came, index| came | 1 << index),
            (true, _) => 0,
        };
        let is_scanned = |id| scanned.chunks_exact(2).any(|component| component[0] == id);
        for component in &mut self.components {
            if is_scanned(component.id) {
                component.came |= came;
            }
        }
        let units = self.units(|component| is_scanned(component.id));
        self.due = units
            .div_ceil(self.interval.max(1))
            .checked_sub(1)
            .filter(|_| self.interval > 0)
            .map(|due| restarts + due);
    }

    /// How many units (MCUs) a scan of these components has (T.81, A.2).
    fn units(&self, is_scanned: impl Fn(&Component) -> bool) -> u64 {
        let across = self.components.iter().map(|c| c.across).max().unwrap_or(1);
        let down = self.components.iter().map(|c| c.down).max().unwrap_or(1);
        let mut scanned = self
            .components
            .iter()
            .filter(|component| is_scanned(component));
        match (scanned.next(), scanned.next()) {
            // Alone, a component's units are its own blocks.
            (Some(alone), None) => {
                let width = (self.width * alone.across).div_ceil(across);
                let height = (self.height * alone.down).div_ceil(down);
                width.div_ceil(8) * height.div_ceil(8)
            }
            _ => self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down),
        }
    }

    fn end_scan(&mut self, restarts: u64) {
        if let Some(due) = self.due.take() {
            self.lacks_restarts |= restarts < due;
        }
    }

    fn has_all(&self) -> bool {
        !self.lacks_restarts
            && self
                .components
                .iter()
                .all(|component| component.came == u64::MAX)
    }
}
