//! Images that are all alike but for their last bytes: unlike for the system, which tells images by
//! their SHA-256, and cheap to make. The hash of what they share is computed once.

use imgsys_types::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes at the end that are an image's own.
pub(crate) const TAIL: usize = 16;

/// Any number of images of one size.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    shared: Vec<u8>,
    hash: Sha256,
}

impl Images {
    /// The end of the image that is sent to a server so that it is known, and may be submitted
    /// again without its bytes.
    pub(crate) const KNOWN: [u8; TAIL] = [0; TAIL];

    /// Bitmaps of about so many bytes, a little less at most.
    #[must_use]
    pub(crate) fn bitmaps(bytes: usize) -> Self {
        let mut side = 8;
        while size(side + 1) as usize <= bytes {
            side += 1;
        }
        let mut image = bitmap(side);
        // The last pixels tell them apart.
        image.truncate(image.len() - TAIL);
        Self::sharing(image)
    }

    /// Images that are this file, with some bytes behind its end.
    #[must_use]
    pub(crate) fn of_file(file: Vec<u8>) -> Self {
        Self::sharing(file)
    }

    fn sharing(shared: Vec<u8>) -> Self {
        let hash = Sha256::new_with_prefix(&shared);
        Self { shared, hash }
    }

    /// What all of them begin with.
    #[must_use]
    pub(crate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// Bytes of an image.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.shared.len() + TAIL
    }

    /// The SHA-256 of the image that ends so.
    #[must_use]
    pub(crate) fn digest(&self, tail: [u8; TAIL]) -> Digest {
        Digest::from_bytes(self.hash.clone().chain_update(tail).finalize().into())
    }
}

/// A row's bytes, a multiple of four.
const fn row(side: u32) -> u32 {
    (side * 3).div_ceil(4) * 4
}

const fn size(side: u32) -> u32 {
    54 + row(side) * side
}

/// A grey BMP of 24 bits a pixel.
fn bitmap(side: u32) -> Vec<u8> {
    let pixels = row(side) * side;
    let mut out = Vec::with_capacity(size(side) as usize);
    out.extend_from_slice(b"BM");
    for field in [size(side), 0, 54, 40, side, side] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    // One plane, 24 bits a pixel.
    out.extend_from_slice(&[1, 0, 24, 0]);
    for field in [0, pixels, 2835, 2835, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(size(side) as usize, 0x80);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_whole_image() {
        let images = Images::bitmaps(10_000);
        assert!((9_500..=10_000).contains(&images.size()));
        let mut whole = images.shared().to_vec();
        whole.extend_from_slice(&[7; TAIL]);
        let expected: [u8; 32] = Sha256::digest(&whole).into();
        assert_eq!(images.digest([7; TAIL]), Digest::from_bytes(expected));
        assert_ne!(images.digest([7; TAIL]), images.digest([8; TAIL]));
    }
}
