//! Byte counts as people write them: `64MiB`, `512 kB`, or a plain number of bytes.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{fmt, str::FromStr};

/// A number of bytes. Written back as a plain number, so that nothing is lost by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ByteCount(u64);

impl ByteCount {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("{text:?} is no size: write 64MiB, 512kB or a number of bytes"))
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteCountVisitor)
    }
}

struct ByteCountVisitor;

impl de::Visitor<'_> for ByteCountVisitor {
    type Value = ByteCount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: 64MiB, 512kB or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteCount, E> {
        Ok(ByteCount(bytes))
    }

    // TOML has no unsigned numbers.
    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteCount, E> {
        u64::try_from(bytes)
            .map(ByteCount)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteCount, E> {
        text.parse()
            .map_err(|_: String| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize(self.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Limits {
        size: ByteCount,
    }

    #[test]
    fn sizes_are_numbers_or_texts() {
        for (text, bytes) in [("7", 7), ("\"64MiB\"", 64 << 20), ("\"512 kB\"", 512_000)] {
            let limits: Limits = toml::from_str(&format!("size = {text}")).unwrap();
            assert_eq!(limits.size.get(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_what_one_is() {
        for text in ["\"12 parsecs\"", "-5", "\"\"", "true"] {
            let error = toml::from_str::<Limits>(&format!("size = {text}")).unwrap_err();
            assert!(
                error.message().contains("expected a size: 64MiB"),
                "{error}"
            );
        }
    }
}
