//! The frame in which every imgsys service stands: configuration, logging, signals, readiness.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the sections of the configuration file, a struct each |
//! | [`load`] | file, `IMGSYS_…` variables and flags made into one [`config::Config`] |
//! | [`units`] | byte counts as the file writes them |
//! | [`logging`] | tracing for people on a terminal, JSON under systemd |
//! | [`lifecycle`] | signals, readiness, watchdog, exit codes |

pub mod config;
pub mod lifecycle;
pub mod load;
pub mod logging;
pub mod units;

pub use config::Config;
pub use lifecycle::{Exit, ready, run, shutdown_on_signals};
pub use load::{ConfigError, Program, parse};
pub use units::ByteCount;

#[cfg(test)]
mod tests;
