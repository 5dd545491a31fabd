//! Small images, each unlike any other.

use imgsys_types::{Digest, JobId};
use sha2::{Digest as _, Sha256};

/// An image and the job that it is sent as.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The job.
    pub job: JobId,
    /// The SHA-256 of the bytes.
    pub sha256: Digest,
    /// Width and height in pixels.
    pub side: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A sample of `side` × `side` pixels that shows `number`.
#[must_use]
pub fn sample(number: u64, side: u32) -> Sample {
    let bytes = bitmap(number, side);
    Sample {
        job: JobId::generate(),
        sha256: digest(&bytes),
        side,
        bytes,
    }
}

/// The SHA-256 of these bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// A BMP of 24 bits a pixel, whose first pixels are `number`.
fn bitmap(number: u64, side: u32) -> Vec<u8> {
    let row = (side * 3).div_ceil(4) * 4;
    let pixels = row * side;
    let mut out = Vec::with_capacity(54 + pixels as usize);
    out.extend_from_slice(b"BM");
    for field in [54 + pixels, 0, 54, 40, side, side] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&1_u16.to_le_bytes());
    out.extend_from_slice(&24_u16.to_le_bytes());
    for field in [0, pixels, 2835, 2835, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(54 + pixels as usize, 0x80);
    out[54..62].copy_from_slice(&number.to_le_bytes());
    out
}
