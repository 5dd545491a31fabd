//! Bytes ⇄ messages.

use crate::cbor::{self, Malformed};
use ciborium_io::{Read, Write};
use imgsys_types::ErrorCode;
use serde::{Serialize, de::DeserializeOwned};
use std::convert::Infallible;

/// Bytes before the head: its length and the body's.
pub const PREFIX_LEN: usize = 8;
/// The longest head, in bytes.
pub const MAX_HEAD: usize = 64 << 10;
/// The most items within items in a head.
pub const MAX_DEPTH: usize = 16;

/// Most heads have fewer bytes.
const USUAL_HEAD: usize = 2 << 10;

/// The most characters of an error's text that are kept.
const MAX_QUOTE: usize = 200;

/// Why bytes are no frame, or a message can't be made one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// No head, or one over [`MAX_HEAD`].
    #[error("a head of {0} bytes; 1 to {MAX_HEAD} are allowed")]
    HeadLength(usize),
    /// A body over what the reader allows.
    #[error("a body of {len} bytes; at most {most} are allowed")]
    BodyLength {
        /// What was announced.
        len: u64,
        /// What is allowed.
        most: u64,
    },
    /// The head is not one well-formed CBOR map.
    #[error("the head is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The head is CBOR, but no message of this protocol.
    #[error("the head is no message of this protocol: {0}")]
    NoMessage(String),
    /// The message can't be written.
    #[error("writing a head: {0}")]
    Encode(String),
}

impl FrameError {
    /// What the other side is told of it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::HeadLength(_) | Self::BodyLength { .. } | Self::Malformed(_) => {
                ErrorCode::BadFrame
            }
            Self::NoMessage(_) => ErrorCode::BadMessage,
            Self::Encode(_) => ErrorCode::Internal,
        }
    }
}

/// The lengths at the beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the head: 1 to [`MAX_HEAD`].
    pub head: usize,
    /// Bytes of the body.
    pub body: u32,
}

impl Prefix {
    /// Reads the lengths and checks the head's.
    pub fn parse(bytes: [u8; PREFIX_LEN]) -> Result<Self, FrameError> {
        let [h0, h1, h2, h3, b0, b1, b2, b3] = bytes;
        let head = u32::from_be_bytes([h0, h1, h2, h3]) as usize;
        let body = u32::from_be_bytes([b0, b1, b2, b3]);
        if (1..=MAX_HEAD).contains(&head) {
            Ok(Self { head, body })
        } else {
            Err(FrameError::HeadLength(head))
        }
    }
}

/// A head as it is written: counted whole, kept only as far as it may be long.
struct Head<'a> {
    out: &'a mut Vec<u8>,
    len: &'a mut usize,
}

impl Write for Head<'_> {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        *self.len += bytes.len();
        if *self.len <= MAX_HEAD {
            // Nearly every item comes in a byte of its own, and in none or more after it.
            match bytes {
                [] => {}
                [byte] => self.out.push(*byte),
                more => self.out.extend_from_slice(more),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The rest of a head as it is read.
struct Rest<'a>(&'a [u8]);

/// A head ends within an item.
#[derive(Debug)]
struct End;

impl Read for Rest<'_> {
    type Error = End;

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), End> {
        // As in writing: mostly one byte, or none.
        match bytes {
            [] => {}
            [byte] => {
                let (first, rest) = self.0.split_first().ok_or(End)?;
                *byte = *first;
                self.0 = rest;
            }
            more => {
                let (read, rest) = self.0.split_at_checked(more.len()).ok_or(End)?;
                more.copy_from_slice(read);
                self.0 = rest;
            }
        }
        Ok(())
    }
}

/// Appends the message's head to `out`; its length.
fn write(message: &impl Serialize, out: &mut Vec<u8>) -> Result<u32, FrameError> {
    let mut len = 0;
    let head = Head { out, len: &mut len };
    ciborium::into_writer(message, head).map_err(|error| FrameError::Encode(error.to_string()))?;
    match u32::try_from(len) {
        Ok(whole) if len <= MAX_HEAD => Ok(whole),
        _ => Err(FrameError::HeadLength(len)),
    }
}

/// Appends a frame without its body to `out`; the caller sends `body` bytes after it.
/// On an error `out` is as it was.
pub fn encode(message: &impl Serialize, body: u64, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let body = u32::try_from(body).map_err(|_| FrameError::BodyLength {
        len: body,
        most: u32::MAX.into(),
    })?;
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    match write(message, out) {
        Ok(head) => {
            out[start..start + 4].copy_from_slice(&head.to_be_bytes());
            out[start + 4..start + PREFIX_LEN].copy_from_slice(&body.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Reads a head: one whole map of modest depth that is a message.
pub fn decode<M: DeserializeOwned>(head: &[u8]) -> Result<M, FrameError> {
    if !(1..=MAX_HEAD).contains(&head.len()) {
        return Err(FrameError::HeadLength(head.len()));
    }
    cbor::check(head, MAX_DEPTH)?;
    read(head).map_err(|error| {
        FrameError::NoMessage(match error {
            ciborium::de::Error::Semantic(_, text) => quoted(&text),
            other => quoted(&other.to_string()),
        })
    })
}

/// Reads a message from a head that is well-formed.
fn read<M: DeserializeOwned>(head: &[u8]) -> Result<M, ciborium::de::Error<End>> {
    // No text in it is longer than itself, so there is room for each.
    let mut whole;
    let mut usual = [0; USUAL_HEAD];
    let room = if head.len() <= USUAL_HEAD {
        &mut usual[..]
    } else {
        whole = vec![0; head.len()];
        &mut whole[..]
    };
    ciborium::de::from_reader_with_buffer(Rest(head), room)
}

/// The text of an error that may quote the head: short, and without control characters, for it
/// goes into logs and into `goodbye`.
fn quoted(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(MAX_QUOTE).map(clean).collect();
    if text.chars().nth(MAX_QUOTE).is_some() {
        short.push('…');
    }
    short
}
