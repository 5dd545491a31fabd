//! JSON written straight into a text, for what is written for every image: to build it as values
//! first takes ten times as long.

use serde_json::Number;
use std::{
    borrow::Cow,
    fmt::{Display, Write},
};

/// Whether JSON writes a text as it is: without quotes, backslashes and control characters.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks();
    words.iter().all(|word| are_plain(*word))
        && rest
            .iter()
            .all(|byte| !matches!(byte, ..b' ' | b'"' | b'\\'))
}

/// Whether all of these bytes are. A byte becomes 0 by what it is compared with, and only what is
/// less than what is taken from it gets a high bit that it had not (Mycroft's way to find a zero).
const fn are_plain(bytes: [u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(bytes);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * b' ' as u64) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGH == 0
}

/// What stands between a text's quotes.
pub(crate) fn inner(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    if is_plain(text) {
        return Ok(text.into());
    }
    let mut quoted = serde_json::to_string(text)?;
    quoted.pop();
    quoted.remove(0);
    Ok(quoted.into())
}

/// JSON as it is written. What can't be written is told at the end.
#[derive(Debug)]
pub(crate) struct Json {
    out: String,
    error: Option<serde_json::Error>,
}

impl Json {
    /// Nothing yet, with room for so many bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            out: String::with_capacity(capacity),
            error: None,
        }
    }

    /// What is JSON already, or a part of it.
    pub(crate) fn raw(&mut self, json: &str) -> &mut Self {
        self.out.push_str(json);
        self
    }

    /// A text, quotes and all.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        match inner(text) {
            Ok(text) => {
                self.out.push('"');
                self.out.push_str(&text);
                self.out.push('"');
            }
            Err(error) => self.error = Some(error),
        }
        self
    }

    /// A number; null if it is none, as serde has it.
    pub(crate) fn real(&mut self, number: f64) -> &mut Self {
        match Number::from_f64(number) {
            Some(number) => self.show(number),
            None => self.raw("null"),
        }
    }

    /// What shows itself as JSON has it: a whole number.
    pub(crate) fn show(&mut self, value: impl Display) -> &mut Self {
        // Writing to a String can't fail.
        let _ = write!(self.out, "{value}");
        self
    }

    /// What shows itself as a text in which nothing is to be written otherwise: an id.
    pub(crate) fn quote(&mut self, value: impl Display) -> &mut Self {
        let _ = write!(self.out, "\"{value}\"");
        self
    }

    /// The whole.
    pub(crate) fn finish(self) -> Result<String, serde_json::Error> {
        self.error.map_or(Ok(self.out), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_written_as_json(text in "\\PC*|[ -~]*|(?s).*") {
            let written = format!("\"{}\"", inner(&text).unwrap());
            prop_assert_eq!(&written, &serde_json::to_string(&text).unwrap());
        }
    }
}
