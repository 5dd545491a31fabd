//! The server's disk: image files named by their digest, and the spool, which keeps every
//! accepted job until the history has it.
//!
//! | module | does |
//! |---|---|
//! | `store` | [`Store`]: what the server calls; reads go to what is in memory and to the log |
//! | `open` | locks, directories, what a crash left half done |
//! | `committer` | the one thread that writes: gathers what is asked and commits it as one |
//! | `batch` | what one commit does to log, files and memory |
//! | `log` | the log's files: segments, batches, records |
//! | `spool`, `index` | where each job's records are, in memory |
//! | `known`, `tables`, `backend` | which images owners have sent: in memory at first, then in a database |
//! | `checkpoint`, `carry` | how the database is brought up to the log, and how old segments go |
//! | `images`, `upload`, `buffer` | image files, and images on their way in |
//! | `health`, `error` | whether flushes can be trusted; what can go wrong |
//!
//! # On disk
//!
//! | file | holds |
//! |---|---|
//! | `dir/spool/0000000001.log` … | the log: jobs accepted, their results, jobs gone; some 64 MiB each |
//! | `dir/spool.redb` | a redb database: which images owners have sent, how many bytes a day, the server's id |
//! | `dir/images/ab/ab…` (or elsewhere) | an image under the 64 hexadecimal digits of its SHA-256 |
//! | `dir/images/incoming/` | large uploads under way |
//!
//! Log and database belong together: neither is of use without the other. A file at an image's place
//! counts only if (digest, owner) is known, by the database or by what the log says since: a crash may
//! leave anything there, and the next upload of that digest writes over it. A file that is known is
//! never written over.
//!
//! # Why a log
//!
//! A job lives for a moment: it comes, ends and goes. A tree on the disk pays three times for it, by
//! finding its place and copying pages; and once more, at a random place, for its image in the index of
//! images. In a log each is a few hundred bytes at the end of a file, and what is not needed any more
//! goes with its whole segment. What has to be looked up is in memory anyway. The index of images is
//! larger than a memory, so it stays in the database; but what is new for it gathers in memory and goes
//! there tens of thousands at once, in order, beside the commits. Until then the log is what brings it
//! back, so segments outlive that.
//!
//! Records are written by hand as numbered fields, not by serde: the types' optional fields and
//! untagged values need an encoding that describes itself, and those that the tree has, JSON and CBOR,
//! write every field's name into every record. A segment's room is taken a MiB at a time, so that a
//! flush need not write the file's new length: on a busy machine that took 0.2 ms instead of 1.7 in
//! one round of 400 and was no different in another.
//!
//! `examples/life.rs` measures what a job costs, accepted, ended and gone, its image being there
//! already: with 64 at once and nothing flushed 11 µs of the committer's processor time, where a
//! database took 21; with flushes 18 and 37 (development build, busy machine).
//!
//! # One flush for all
//!
//! All that is asked while a commit is under way shares the next one. A batch's image files are
//! written (large ones, flushed by their own uploads, are renamed) without flushing them, then the
//! batch is written to the log, and one flush covers both: a `syncfs` of the images' file system, if
//! there were any, followed by an `fdatasync` of the segment. So the record may reach the disk before
//! its image. But no batch is written before the flush of the one before has ended. So only the last
//! batch of the log may be half there, or rely on images that are; [`Store::open`] cuts it off in the
//! one case, and checks its images in the other: a record without its whole image was in a flush that
//! never ended, so nobody was told that it was accepted, and it is taken back. Where nothing follows
//! within a second, an empty batch does, so that what was answered for long ago is not in question.
//!
//! `examples/flush.rs` measured this against other ways, when the records were still in the database;
//! images of 10 KB, milliseconds a batch (middle of 100 and more; thread's CPU time), on a virtual
//! machine with two cores while it was otherwise quiet. A flush of its disk takes 0.3 ms.
//!
//! | batch | each file and directory, then commit | `syncfs`, then commit | image in the record, file later | `syncfs` is the commit's |
//! |---|---|---|---|---|
//! | ext4 without journal, 1 | 0.82 (0.46) | 0.68 (0.38) | 0.65 (0.41) | 0.56 (0.33) |
//! | 8 | 3.72 (1.85) | 1.13 (0.70) | 1.19 (0.92) | 1.25 (0.75) |
//! | 64 | 27.9 (12.4) | 6.67 (4.35) | 5.43 (4.86) | 5.28 (3.52) |
//! | ext4 with journal (loop), 1 | 1.01 (0.26) | 1.36 (0.35) | 0.97 (0.28) | 1.43 (0.30) |
//! | 8 | 5.87 (1.26) | 2.67 (0.76) | 1.58 (0.84) | 2.16 (0.65) |
//! | 64 | 42.0 (7.39) | 8.49 (4.14) | 7.59 (5.11) | 7.50 (3.51) |
//!
//! With 100 MB/s of others' writes on the same journalled disk one image took 1.5, 8.0, 3.9 and
//! 4.5 ms (nine in ten below 14, 16, 8 and 12), 64 took 232, 6.6, 6.1 and 7.0. The image in the
//! record is the only rival: somewhat quicker for a single image beside a busy neighbour, but it
//! writes every image twice and costs 40 % more processor time for 64.
//!
//! # The lock of an image
//!
//! Only the committer's thread adds image files and what is known of them, so its order of work is the
//! lock between checking that an image is here and inserting a job that relies on it. For the same
//! reason image files are removed by it alone: see [`Store::remove_images`].
//!
//! # When the disk fails
//!
//! A flush that fails is never tried again: all that wait get [`StoreError::Broken`],
//! [`Store::broken`] resolves, and the process has to open the store anew, which reads from the
//! disk what it kept. A log that is damaged anywhere but at its end, or a part of which is missing, is
//! told when it is opened ([`StoreError::CorruptLog`]) and nothing of it is given up. A full disk refuses images before it comes to that: [`StoreOptions::min_free`] is
//! kept for the spool's own writes.

mod backend;
mod batch;
mod buffer;
mod carry;
mod checkpoint;
mod committer;
mod error;
mod health;
mod images;
mod index;
mod known;
mod log;
mod open;
mod removal;
mod spool;
mod store;
mod tables;
mod upload;

pub use error::StoreError;
pub use open::StoreOptions;
pub use store::{Accepted, Image, Recovered, Spooled, Store};
pub use upload::Upload;

/// The largest image that is held in memory until it is accepted, in bytes. Larger ones go
/// through a file of their own.
pub const SMALL_IMAGE: usize = 128 << 10;

/// What an accepted image survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut.
    #[default]
    Fsync,
    /// A `kill -9` only: everything is written but nothing flushed. For benchmarks.
    None,
}
