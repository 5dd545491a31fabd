//! The whole system, as its clients see it: real programs, real Redis, real PostgreSQL.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod bad_input;
mod client;
mod dead;
mod delete;
mod fairness;
mod hostile;
mod images;
mod journey;
mod ledger;
mod limits;
mod reanalyze;
mod similar;
mod told;
