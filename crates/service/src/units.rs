//! Byte counts as people write them: `64MiB`, `512 kB`, or a plain number of bytes.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};
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
        ByteSize::deserialize(deserializer).map(|size| Self(size.as_u64()))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize(self.0))
    }
}
