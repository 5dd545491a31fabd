//! The wire protocol: frames and messages, as docs/protocol.md and `imgsys.cddl` fix them.
//!
//! A frame is `u32 head_len · u32 body_len · head · body`, big-endian. The head is one message in
//! CBOR; the body is raw bytes (an image) and is streamed, never held whole.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | [`ClientMessage`], [`ServerMessage`] and what they carry |
//! | [`frame`] | bytes ⇄ messages: every length is checked before anything is allocated |
//! | [`cbor`] | the check that a head is one well-formed item of modest depth |
//! | [`reader`] | [`FrameReader`]: frames from a stream |

pub mod cbor;
pub mod frame;
pub mod message;
pub mod reader;

pub use frame::{FrameError, MAX_DEPTH, MAX_HEAD, PREFIX_LEN, Prefix, decode, encode};
pub use message::{ClientMessage, ServerMessage};
pub use reader::{FrameReader, ReadError};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
