//! The hash by which images that look alike are found.

use crate::{IdError, hexadecimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A perceptual hash of 64 bits: the fewer bits differ between two, the more alike the images
/// look. 16 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// How many bits may differ in images that count as alike, unless somebody says otherwise.
    pub const ALIKE: u32 = 8;
    /// The most bits that may be asked for: beyond, unrelated images come in, and an index is of
    /// little help.
    pub const MAX_DISTANCE: u32 = 10;

    /// The hash with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// How many bits differ (the Hamming distance): 0 to 64.
    #[must_use]
    pub const fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

impl FromStr for PerceptualHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = hexadecimal::read(text).ok_or(IdError::PerceptualHash)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(hexadecimal::write(&self.0.to_be_bytes(), &mut [0; 16]))
    }
}

impl fmt::Debug for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PerceptualHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(hexadecimal::write(&self.0.to_be_bytes(), &mut [0; 16]))
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for PerceptualHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PerceptualHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a perceptual hash: 8 bytes, or 16 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PerceptualHash, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PerceptualHash, E> {
                bytes
                    .try_into()
                    .map(|bytes| PerceptualHash(u64::from_be_bytes(bytes)))
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = PerceptualHash::from_bits(0x0123_4567_89ab_cdef);
        assert_eq!(hash.to_string(), "0123456789abcdef");
        assert_eq!("0123456789abcdef".parse(), Ok(hash));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdeg",
            "00123456789abcdef",
        ] {
            assert_eq!(
                wrong.parse::<PerceptualHash>(),
                Err(IdError::PerceptualHash)
            );
        }
    }

    #[test]
    fn the_distance_counts_bits() {
        let hash = PerceptualHash::from_bits;
        assert_eq!(hash(0b1011).distance(hash(0b0001)), 2);
        assert_eq!(hash(0).distance(hash(u64::MAX)), 64);
    }
}
