//! The history in PostgreSQL: its schema, writing it, reading it.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@migrate`] | the schema's versions (`sql/` at the top of the repository) and how they are applied |
//! | [`mod@write`] | [`Writer`]: batches of events become rows, in any order, each once; for the persister |
//! | [`read`] | [`Reader`]: pages of the history, jobs by id; for the server |
//! | `page` | which statements find a page, one after the other |
//! | `erase` | a reader erases what is personal of a job |
//! | `address` | the connection string, with libpq's words for TLS |
//! | `connection` | how a connection is set up, and what an error of PostgreSQL means |
//! | `batch` | the events of a batch, one line a job, as columns |
//! | `query` | the SQL of a page: only the conditions that are set, so that an index fits |
//! | `rare` | the SQL for filters that few jobs among many pass |
//! | `similar` | the SQL that finds images that look alike, by index |
//! | `way` | by which of its conditions the jobs that pass a filter are found |
//! | `value` | Rust values as PostgreSQL can hold them, and back |
//!
//! The persister blocks (crate `postgres`), the server does not (crate `tokio-postgres`); the
//! connection string is the same for both: a URL (`postgres://user@host/db`) or pairs
//! (`host=/run/postgresql user=imgsys dbname=imgsys`).

mod address;
mod batch;
mod connection;
mod erase;
pub mod migrate;
mod page;
mod query;
mod rare;
pub mod read;
mod similar;
mod value;
mod way;
pub mod write;

pub use address::AddressError;
pub use connection::{ConnectError, connect};
pub use migrate::{MigrateError, Status, migrate};
pub use read::{ReadError, Reader};
pub use write::{WriteError, WriteReport, Writer};
