//! The table of faults, a small function each.
//!
//! A case says what it wants to be there ([`Stage`]), then does its worst to the running system
//! under load ([`Scene`]), and gives back from when on all should be well again ([`Mark`]).

// Whatever can't fail has the type of those in the table that can.
#![allow(clippy::unnecessary_wraps)]

mod client;
mod clock;
mod disk;
mod many;
mod network;
mod persister;
mod postgres;
mod redis;
mod server;
mod table;
mod worker;

pub use many::POISON;
pub use table::CASES;

use crate::scene::{Scene, Stage};
use imgsys_local::Service;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is called on the command line and in reports.
    pub name: &'static str,
    /// What is done, in a few words.
    pub about: &'static str,
    /// What has to be there before anything is started.
    pub stage: fn(&mut Stage) -> anyhow::Result<()>,
    /// Breaks something and, if need be, brings it back.
    pub act: fn(&Scene) -> anyhow::Result<Mark>,
    /// The longest that recovery may take, in seconds, if that is promised.
    pub within: Option<f64>,
    /// Whether chaos may do it too, at any time.
    pub in_chaos: bool,
}

/// From when on all should be well again.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// Nothing stops.
    Nothing,
    /// Answers should come from then on: recovery ends with the first.
    Answers(Instant),
    /// Tasks of dead workers should be taken over: recovery ends with the last of their answers.
    Takeovers(Instant),
    /// It was measured.
    Took(Duration),
}

/// A program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `kill -9`
    Kill,
    /// SIGTERM, upon which it ends in its own way.
    Term,
}

impl How {
    fn end(self, service: &Service) {
        match self {
            Self::Kill => service.kill(),
            Self::Term => service.stop(),
        }
    }
}

/// The case can't be done here.
#[derive(Debug)]
pub struct Skipped(pub String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}
