//! The whole system on one machine: a private Redis and PostgreSQL, then persister, server and
//! workers, all as child processes in one data directory.
//!
//! The program `imgsys-local` is made of this, and so are the integration tests of every crate:
//!
//! ```no_run
//! let stack = imgsys_local::Stack::builder().workers(2).start()?;
//! stack.server().kill();
//! stack.server().start()?; // on the same port, with the same spool
//! println!("clients are served on {}", stack.address());
//! # Ok::<(), imgsys_local::Error>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`stack`] | [`Stack`]: everything, started and stopped in order |
//! | [`redis`] | [`Redis`], and [`TestRedis`] in a directory of its own |
//! | [`postgres`] | [`Postgres`], and [`TestPostgres`] in a directory of its own |
//! | [`service`] | [`Service`]: a program that is started, killed and started again |
//! | [`between`] | [`Between`]: a link to a server that fails as a test wants it to |
//! | [`cli`] | the commands of `imgsys-local` |
//!
//! Only programs are started here, no crate of theirs is linked. All calls block and none needs a
//! runtime, so they serve `#[test]` and `#[tokio::test]` alike. What is dropped is stopped; if this
//! process is killed, the kernel kills its children. Linux only.

pub mod between;
pub mod cli;
mod cluster;
mod error;
mod files;
mod find;
mod log;
mod model;
pub mod postgres;
mod process;
mod ready;
pub mod redis;
pub mod service;
pub mod stack;
mod tree;
mod up;
mod user;

pub use between::Between;
pub use error::Error;
pub use postgres::{Postgres, TestPostgres, Tuning};
pub use process::Spec;
pub use redis::{Redis, TestRedis};
pub use service::Service;
pub use stack::Stack;
