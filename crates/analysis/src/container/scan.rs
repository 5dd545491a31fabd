//! A place in the bytes that only moves forward and never leaves them.

use super::Flaw;

/// The bytes from a place on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    rest: &'a [u8],
    /// What is being read, for the message if the bytes end.
    what: &'static str,
}

impl<'a> Scan<'a> {
    /// From this offset on, which may lie beyond the end.
    pub(super) fn at(bytes: &'a [u8], offset: usize, what: &'static str) -> Self {
        Self {
            rest: bytes.get(offset..).unwrap_or_default(),
            what,
        }
    }

    /// What is read from here on.
    pub(super) fn reading(&mut self, what: &'static str) {
        self.what = what;
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| Flaw::truncated(format!("it ends within {}", self.what)))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| Flaw::truncated(format!("it ends within {}", self.what)))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Flaw> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16_be(&mut self) -> Result<u16, Flaw> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u16_le(&mut self) -> Result<u16, Flaw> {
        self.array().map(u16::from_le_bytes)
    }

    /// The 24 bits that WebP writes lengths in.
    pub(super) fn u24_le(&mut self) -> Result<u32, Flaw> {
        self.array()
            .map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub(super) fn u32_be(&mut self) -> Result<u32, Flaw> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, Flaw> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32_le(&mut self) -> Result<i32, Flaw> {
        self.array().map(i32::from_le_bytes)
    }
}

/// A length of 32 bits as an offset; one that does not fit lies beyond any file.
pub(super) fn offset(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
