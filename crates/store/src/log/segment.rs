//! What stands before a segment's batches, and before each of them: thirty-two bytes.
//!
//! Numbers are little-endian, checksums are CRC-32 and begin with the store's [`Salt`].
//!
//! | of a segment | | of a batch | |
//! |---|---|---|---|
//! | 0 | `imgsysSL` | 0 | `\xb1SB\x01` |
//! | 8 | checksum of bytes 12 to 32 | 4 | checksum of bytes 8 to 32 |
//! | 12 | the format's version | 8 | how many bytes of records follow |
//! | 16 | the segment's number | 12 | their checksum |
//! | 20 | zeros | 16 | the batch's number, one more than that before it |
//! | 24 | the number of its first batch | 24 | how many records follow |
//! | | | 28 | zeros |

use super::{fields::Malformed, record::Salt};

/// The bytes before a segment's batches, and before a batch's records.
pub(crate) const HEAD: usize = 32;

const SEGMENT: [u8; 8] = *b"imgsysSL";
pub(super) const BATCH: [u8; 4] = *b"\xb1SB\x01";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) number: u32,
    /// The number of its first batch.
    pub(crate) first: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) len: u32,
    pub(crate) checksum: u32,
    pub(crate) sequence: u64,
    pub(crate) records: u32,
}

impl SegmentHead {
    pub(crate) fn encode(self, salt: Salt) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        put(&mut head, 0, &SEGMENT);
        put(&mut head, 12, &VERSION.to_le_bytes());
        put(&mut head, 16, &self.number.to_le_bytes());
        put(&mut head, 24, &self.first.to_le_bytes());
        let sum = salt.checksum(&[&head[12..]]);
        put(&mut head, 8, &sum.to_le_bytes());
        head
    }

    /// `None` if these bytes are no head of a segment of this store.
    pub(crate) fn decode(head: &[u8; HEAD], salt: Salt) -> Result<Option<Self>, Malformed> {
        if head[..8] != SEGMENT || four(head, 8) != salt.checksum(&[&head[12..]]) {
            return Ok(None);
        }
        if four(head, 12) != VERSION {
            return Err(Malformed(
                "it is of a version that this program does not know",
            ));
        }
        Ok(Some(Self {
            number: four(head, 16),
            first: eight(head, 24),
        }))
    }
}

impl BatchHead {
    pub(crate) fn encode(self, salt: Salt) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        put(&mut head, 0, &BATCH);
        put(&mut head, 8, &self.len.to_le_bytes());
        put(&mut head, 12, &self.checksum.to_le_bytes());
        put(&mut head, 16, &self.sequence.to_le_bytes());
        put(&mut head, 24, &self.records.to_le_bytes());
        let sum = salt.checksum(&[&head[8..]]);
        put(&mut head, 4, &sum.to_le_bytes());
        head
    }

    /// `None` if these bytes are no head of a batch.
    pub(crate) fn decode(head: &[u8; HEAD], salt: Salt) -> Option<Self> {
        let whole = head[..4] == BATCH && four(head, 4) == salt.checksum(&[&head[8..]]);
        whole.then(|| Self {
            len: four(head, 8),
            checksum: four(head, 12),
            sequence: eight(head, 16),
            records: four(head, 24),
        })
    }
}

fn put(head: &mut [u8; HEAD], at: usize, bytes: &[u8]) {
    for (to, from) in head.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

fn four(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| head[at + index]))
}

fn eight(head: &[u8; HEAD], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| head[at + index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_and_only_whole() {
        let salt = Salt(99);
        let segment = SegmentHead {
            number: 7,
            first: u64::MAX,
        };
        let batch = BatchHead {
            len: 1,
            checksum: 2,
            sequence: 3,
            records: 4,
        };
        let (mut a, mut b) = (segment.encode(salt), batch.encode(salt));
        assert_eq!(SegmentHead::decode(&a, salt), Ok(Some(segment)));
        assert_eq!(BatchHead::decode(&b, salt), Some(batch));
        assert_eq!(SegmentHead::decode(&a, Salt(98)), Ok(None));
        assert_eq!(BatchHead::decode(&b, Salt(98)), None);
        for bit in 0..HEAD * 8 {
            let (byte, bit) = (bit / 8, 1 << (bit % 8));
            (a[byte], b[byte]) = (a[byte] ^ bit, b[byte] ^ bit);
            assert_eq!(SegmentHead::decode(&a, salt), Ok(None));
            assert_eq!(BatchHead::decode(&b, salt), None);
            (a[byte], b[byte]) = (a[byte] ^ bit, b[byte] ^ bit);
        }
    }
}
