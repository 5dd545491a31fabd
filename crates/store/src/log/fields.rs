//! The encoding of what is in a record: numbered fields, one after the other.
//!
//! A field begins with a byte: its number in the upper six bits, its form in the lower two.
//!
//! | form | then |
//! |---|---|
//! | 0 | a number: seven bits a byte, the lowest first, the eighth bit set in all but the last |
//! | 1 | eight bytes: a little-endian number, or the bits of a float |
//! | 2 | bytes, with their count as in form 0 before them |
//! | 3 | fields, with the count of their bytes as four bytes, little-endian, before them |
//!
//! A reader passes over fields that it does not know and does without those that are not there, so
//! that fields can be added later. A number is never given to another field.

/// Why bytes are no fields, or not those of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const NUMBER: u8 = 0;
const EIGHT: u8 = 1;
const BYTES: u8 = 2;
const FIELDS: u8 = 3;

/// Writes fields to the end of a buffer.
#[derive(Debug)]
pub(crate) struct Encoder<'a>(&'a mut Vec<u8>);

impl<'a> Encoder<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(crate) fn number(&mut self, field: u8, value: impl Into<u64>) {
        self.0.push(field << 2 | NUMBER);
        self.varint(value.into());
    }

    pub(crate) fn eight(&mut self, field: u8, bytes: [u8; 8]) {
        self.0.push(field << 2 | EIGHT);
        self.0.extend_from_slice(&bytes);
    }

    pub(crate) fn float(&mut self, field: u8, value: f64) {
        self.eight(field, value.to_bits().to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 2 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, field: u8, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A text, unless there is none.
    pub(crate) fn maybe_text(&mut self, field: u8, text: Option<&String>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    /// A float, unless there is none.
    pub(crate) fn maybe_float(&mut self, field: u8, value: Option<f64>) {
        if let Some(value) = value {
            self.float(field, value);
        }
    }

    /// What the function writes, as the fields of one.
    pub(crate) fn fields(&mut self, field: u8, write: impl FnOnce(&mut Encoder<'_>)) {
        self.0.push(field << 2 | FIELDS);
        let start = self.0.len() + 4;
        self.0.extend_from_slice(&[0; 4]);
        write(&mut Encoder(self.0));
        // No record comes near 4 GiB: a batch that does is refused as a whole.
        let len = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(start - 4..start) {
            place.copy_from_slice(&len.to_le_bytes());
        }
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Fields(Fields<'a>),
}

/// Fields that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and value.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Value<'a>)>, Malformed> {
        let Some((&head, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        self.0 = rest;
        let value = match head & 3 {
            NUMBER => Value::Number(self.varint()?),
            EIGHT => Value::Eight(self.array()?),
            BYTES => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            _ => {
                let len = u32::from_le_bytes(self.array()?);
                Value::Fields(Fields(self.take(len.into())?))
            }
        };
        Ok(Some((head >> 2, value)))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                self.0 = self.0.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed("a number without an end"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| SHORT)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }
}

const SHORT: Malformed = Malformed("a field without an end");
const FORM: Malformed = Malformed("a field of another form");

impl<'a> Value<'a> {
    /// A whole number that fits.
    pub(crate) fn number<T: TryFrom<u64>>(self) -> Result<T, Malformed> {
        match self {
            Self::Number(value) => T::try_from(value).map_err(|_| Malformed("a number too large")),
            _ => Err(FORM),
        }
    }

    pub(crate) const fn eight(self) -> Result<[u8; 8], Malformed> {
        match self {
            Self::Eight(bytes) => Ok(bytes),
            _ => Err(FORM),
        }
    }

    pub(crate) fn float(self) -> Result<f64, Malformed> {
        self.eight()
            .map(|bytes| f64::from_bits(u64::from_le_bytes(bytes)))
    }

    pub(crate) const fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(FORM),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text that is none"))
    }

    pub(crate) fn string(self) -> Result<String, Malformed> {
        self.text().map(str::to_owned)
    }

    /// Exactly so many bytes, as ids and digests are.
    pub(crate) fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes()?;
        bytes
            .try_into()
            .map_err(|_| Malformed("an id of another length"))
    }

    pub(crate) const fn fields(self) -> Result<Fields<'a>, Malformed> {
        match self {
            Self::Fields(fields) => Ok(fields),
            _ => Err(FORM),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn fields_come_back(number: u64, eight: [u8; 8], bytes in vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out);
            encoder.number(0, number);
            encoder.fields(63, |inner| inner.bytes(1, &bytes));
            encoder.eight(2, eight);
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.next(), Ok(Some((0, Value::Number(number)))));
            let (field, value) = fields.next().unwrap().unwrap();
            prop_assert_eq!(field, 63);
            prop_assert_eq!(value.fields().unwrap().next(), Ok(Some((1, Value::Bytes(&bytes)))));
            prop_assert_eq!(fields.next(), Ok(Some((2, Value::Eight(eight)))));
            prop_assert_eq!(fields.next(), Ok(None));
        }

        #[test]
        fn any_bytes_are_read_to_their_end_or_refused(bytes in vec(any::<u8>(), 0..300)) {
            let mut fields = Fields::new(&bytes);
            // Each field takes a byte at least.
            let ends = (0..=bytes.len()).any(|_| !matches!(fields.next(), Ok(Some(_))));
            prop_assert!(ends);
        }
    }
}
