//! The log: what was accepted, what it came to and what is gone, in the order in which it happened.
//!
//! The log is a row of segments, `spool/0000000001.log` and so on. A segment is a head and batches,
//! a batch a head and records (`segment` and `record` say what is in them byte by byte). Each commit
//! writes one batch and flushes it before the next is written. So of the whole log only the last
//! batch can be half there after a power cut: it was never answered for, and is cut off when the
//! store is opened. Anything else that is not whole is damage, and told as such.
//!
//! A job is found by what the index remembers: the place of its accepted record and of its result.
//! Once written, a record never changes.
//!
//! The oldest segment goes as soon as no job's record is in it. Only ever the oldest: a record that
//! says that a job is gone has to outlive the one that says that it came. When the log is more than
//! twice as long as what is needed of it, jobs that stay long are carried over from its beginning to
//! its end, a little with each commit.

pub(crate) mod disk;
mod fields;
mod job;
pub(crate) mod reader;
pub(crate) mod record;
mod result;
pub(crate) mod segment;
mod window;
pub(crate) mod writer;

pub(crate) use disk::{Directory, Disk, SegmentFile, Unflushed};
pub(crate) use fields::Malformed;
pub(crate) use window::{Located, Window, decode_accepted, with_result};
pub(crate) use writer::{End, Writer, Written};

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// How many bytes it takes.
    pub(crate) len: u32,
}
