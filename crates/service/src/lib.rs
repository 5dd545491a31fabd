//! The frame in which every imgsys service stands: configuration, logging, signals, readiness.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the sections of the configuration file, a struct each |
//! | [`load`] | file, `IMGSYS_…` variables and flags made into one [`config::Config`] |
//! | [`units`] | byte counts as the file writes them |
//! | [`secret`] | passwords: put into URLs, kept out of logs and errors |
//! | [`logging`] | tracing for people on a terminal, JSON under systemd |
//! | [`lifecycle`] | signals, readiness, watchdog, exit codes |
//! | [`metrics`] | counters, gauges and histograms for Prometheus |
//! | [`http`] | the side listener: `/livez`, `/readyz`, `/metrics` |

pub mod config;
pub mod http;
pub mod lifecycle;
pub mod load;
pub mod logging;
pub mod metrics;
mod process;
pub mod secret;
pub mod units;

pub use config::Config;
pub use lifecycle::{Exit, ready, run, shutdown_on_signals, tell};
pub use load::{ConfigError, Program, parse};
pub use metrics::Metrics;
pub use secret::{Secrets, read_secret};
pub use units::ByteCount;

#[cfg(test)]
mod tests;
