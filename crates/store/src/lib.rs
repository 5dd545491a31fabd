//! The server's disk.

mod backend;
mod batch;
mod committer;
mod error;
mod health;
mod images;
mod index;
mod open;
mod store;
mod tables;
mod upload;

pub use error::StoreError;
pub use open::StoreOptions;
pub use store::{Accepted, Image, Store};
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
