//! The server's disk: image files named by their digest, and the spool, which keeps every
//! accepted job until the history has it.
//!
//! | module | does |
//! |---|---|
//! | `store` | [`Store`]: what the server calls; reads go straight to the database |
//! | `open` | locks, directories, what a crash left half done |
//! | `committer` | the one thread that writes: gathers what is asked and commits it as one |
//! | `batch` | what one commit does to tables, files and index |
//! | `backend` | the database's file, whose flush covers the image files too |
//! | `images`, `upload` | image files, and images on their way in |
//! | `tables`, `index` | the spool's tables; where each job's record is, in memory |
//! | `health`, `error` | whether flushes can be trusted; what can go wrong |
//!
//! # On disk
//!
//! `dir/spool.redb` is a redb database. `dir/images/ab/ab…` (or elsewhere) is an image under the
//! 64 hexadecimal digits of its SHA-256, `images/incoming/` holds large uploads under way. A file
//! at an image's place counts only if the database's index of (digest, owner) has it: a crash may
//! leave anything there, and the next upload of that digest writes over it. A file that the index
//! has is never written over.
//!
//! # One flush for all
//!
//! All that is asked while a commit is under way shares the next one. A batch's image files are
//! written (large ones, flushed by their own uploads, are renamed) without flushing them, then the
//! database is, and the database's one flush is a `syncfs` of the images' file system followed by
//! an `fdatasync` of its own file. So the record may reach the disk before its image. Therefore
//! each commit names the records whose images it flushes, the next one forgets them, and
//! [`Store::open`] checks the images of those it finds named: a record without its whole image was
//! in a flush that never ended, so nobody was told that it was accepted, and it is taken back.
//!
//! `examples/flush.rs` measured this against other ways; images of 10 KB, milliseconds a batch
//! (middle of 100 and more; thread's CPU time), on a virtual machine with two cores while it was
//! otherwise quiet. A flush of its disk takes 0.3 ms.
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
//! Only the committer's thread adds image files and index entries, so its order of work is the
//! lock between checking that an image is here and inserting a job that relies on it. For the same
//! reason image files are removed by it alone: see [`Store::remove_images`].
//!
//! # When the disk fails
//!
//! A flush that fails is never tried again: all that wait get [`StoreError::Broken`],
//! [`Store::broken`] resolves, and the process has to open the store anew, which reads from the
//! disk what it kept. A full disk refuses images before it comes to that: [`StoreOptions::min_free`] is
//! kept for the spool's own writes.

mod backend;
mod batch;
mod buffer;
mod committer;
mod error;
mod health;
mod images;
mod index;
mod open;
mod removal;
mod store;
mod tables;
mod upload;

pub use error::StoreError;
pub use open::StoreOptions;
pub use store::{Accepted, Image, Spooled, Store};
pub use upload::Upload;

/// The largest image that is held in memory until it is accepted, in bytes. Larger ones go
/// through a file of their own.
pub const SMALL_IMAGE: usize = 64 << 10;

/// What an accepted image survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut.
    #[default]
    Fsync,
    /// A `kill -9` only: everything is written but nothing flushed. For benchmarks.
    None,
}
