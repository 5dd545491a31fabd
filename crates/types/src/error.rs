//! The codes of the wire protocol: stable, for programs; a text for people goes beside them.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a server refuses a request (`rejected`) or ends a connection (`goodbye`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code that this version does not know.
            #[serde(rename = "other", other)]
            Other,
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)* Self::Other];

            /// The code as it is written everywhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other => "other",
                }
            }
        }
    };
}

codes! {
    /// The bytes are no frame of this protocol.
    BadFrame = "bad_frame",
    /// The head is a CBOR map but no message, or one that makes no sense here.
    BadMessage = "bad_message",
    /// The first message was not `hello`.
    HelloExpected = "hello_expected",
    /// The client speaks another version of the protocol.
    UnsupportedVersion = "unsupported_version",
    /// Something took too long: the handshake, a frame, or silence.
    TimedOut = "timed_out",
    /// As many connections as the server allows.
    TooManyConnections = "too_many_connections",
    /// More submits at once than the server allows on a connection.
    TooManyInFlight = "too_many_in_flight",
    /// More jobs watched than the server allows on a connection.
    TooManyWatched = "too_many_watched",
    /// As many unfinished jobs of this owner as the server allows.
    TooManyUnfinished = "too_many_unfinished",
    /// More requests a second than the server allows an owner.
    RateLimited = "rate_limited",
    /// As many bytes of this owner as the server takes a day.
    QuotaExceeded = "quota_exceeded",
    /// An image without a byte.
    EmptyImage = "empty_image",
    /// An image over the server's limit.
    ImageTooLarge = "image_too_large",
    /// The body's length is not the size that was announced.
    SizeMismatch = "size_mismatch",
    /// The body's SHA-256 is not the one that was announced.
    DigestMismatch = "digest_mismatch",
    /// The job's id belongs to another image or owner.
    Conflict = "conflict",
    /// No such job of this owner.
    UnknownJob = "unknown_job",
    /// The job has ended; there is nothing to cancel.
    AlreadyFinished = "already_finished",
    /// The job has not ended yet, so it can't be done anew or deleted.
    NotFinished = "not_finished",
    /// The image has no perceptual hash: it failed, is of one colour, or was not decoded.
    NotComparable = "not_comparable",
    /// The server does not keep the job's image any more.
    ImageMissing = "image_missing",
    /// The request's values make no sense; the text says which.
    BadRequest = "bad_request",
    /// Not allowed: no token, a wrong one, or one without the scope.
    NotAllowed = "not_allowed",
    /// A part that this request needs is down; try again later.
    Unavailable = "unavailable",
    /// The server's disk is full; try again later.
    DiskFull = "disk_full",
    /// The server is going down; connect again.
    ShuttingDown = "shutting_down",
    /// The server's own fault; its log says more.
    Internal = "internal",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ErrorCode {
    /// Whether the same request may succeed later, with nothing about it changed.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::TimedOut
            | Self::TooManyConnections
            | Self::TooManyInFlight
            | Self::TooManyWatched
            | Self::TooManyUnfinished
            | Self::RateLimited
            | Self::Unavailable
            | Self::DiskFull
            | Self::ShuttingDown
            | Self::Internal => true,
            Self::QuotaExceeded
            | Self::BadFrame
            | Self::BadMessage
            | Self::HelloExpected
            | Self::UnsupportedVersion
            | Self::EmptyImage
            | Self::ImageTooLarge
            | Self::SizeMismatch
            | Self::DigestMismatch
            | Self::Conflict
            | Self::UnknownJob
            | Self::AlreadyFinished
            | Self::NotFinished
            | Self::NotComparable
            | Self::ImageMissing
            | Self::BadRequest
            | Self::NotAllowed
            | Self::Other => false,
        }
    }
}
