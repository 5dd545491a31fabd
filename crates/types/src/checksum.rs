//! The checksum by which a worker knows an image again.

use crate::hexadecimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// XXH3 of an image's bytes, 128 bits, seed 0 ([the specification] calls it `XXH3_128bits`), written as 32
/// hexadecimal digits from the most significant on.
///
/// A server makes it while the bytes are in its hands whose SHA-256 it checks. Who reads them from a
/// disk later learns by it, for a tenth of what SHA-256 takes, that they are still the same. It is
/// no proof against somebody who made other bytes for the purpose: that is what the digest is for.
///
/// [the specification]: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u128);

/// A text that is no [`Checksum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 32 hexadecimal digits")]
pub struct ChecksumError;

impl Checksum {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes))
    }

    /// The 16 bytes, from the most significant on.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The checksum of these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        hexadecimal::read(text)
            .map(Self::from_bytes)
            .ok_or(ChecksumError)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(hexadecimal::write(&self.to_bytes(), &mut [0; 32]))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Makes a [`Checksum`] of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Summing(Box<Xxh3>);

impl Summing {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// That of all pieces.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        Checksum(self.0.digest128())
    }
}

impl fmt::Debug for Summing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Summing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of the reference implementation's `xxhsum -H2`.
    #[test]
    fn it_is_the_xxh3_that_others_make() {
        for (bytes, expected) in [
            (&b""[..], "99aa06d3014798d86001c324468d497f"),
            (b"abc", "06b05ab6733a618578af5f94892f3950"),
        ] {
            assert_eq!(Checksum::of(bytes).to_string(), expected);
            assert_eq!(expected.parse(), Ok(Checksum::of(bytes)));
        }
        assert_eq!("06b0".parse::<Checksum>(), Err(ChecksumError));
    }

    #[test]
    fn pieces_make_the_same() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for piece in [1, 7, 4096, 300_000] {
            let mut summing = Summing::default();
            bytes.chunks(piece).for_each(|piece| summing.update(piece));
            assert_eq!(summing.checksum(), Checksum::of(&bytes));
        }
    }
}
