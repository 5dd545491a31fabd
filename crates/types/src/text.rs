//! Texts of analyses, read by way of the reader's own buffer.
//!
//! A `String` asks its reader for a text to keep, which ciborium puts together piece by piece, though
//! in our heads texts are whole. To copy what it has in its buffer takes a third of that. It must
//! fit in there: 4 KB, if no larger one is given. So these are for texts that are bounded to less.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

struct Text;

impl de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Reads a text.
pub(crate) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_str(Text)
}

/// Reads a text that there may be.
pub(crate) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    struct Kept(String);

    impl<'de> Deserialize<'de> for Kept {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            one(deserializer).map(Self)
        }
    }

    let kept = Option::deserialize(deserializer)?;
    Ok(kept.map(|Kept(text)| text))
}
