//! The rows of the report, in groups that are measured together.

mod loads;
mod memory;

use crate::bench::Bench;

/// Rows that are measured together.
#[derive(Debug)]
pub struct Group {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Whether it is part of a quick benchmark.
    pub quick: bool,
    /// Measures it.
    pub run: fn(&mut Bench) -> anyhow::Result<()>,
}

/// All groups, in the order in which they run: first what the compared systems serve.
pub const GROUPS: &[Group] = &[
    Group {
        name: "memory",
        about: "the programs' memory when they are idle",
        quick: true,
        run: memory::idle,
    },
    Group {
        name: "10k",
        about: "images of 10 KB: CPU, images a second, p99 beside p50; and the machine's limits",
        quick: true,
        run: loads::small,
    },
    Group {
        name: "100k",
        about: "images of 100 KB",
        quick: true,
        run: loads::middle,
    },
    Group {
        name: "1m",
        about: "images of 1 MB",
        quick: true,
        run: loads::large,
    },
    Group {
        name: "many",
        about: "64 connections beside 8",
        quick: true,
        run: loads::many,
    },
    Group {
        name: "trip",
        about: "one image at a time",
        quick: true,
        run: loads::trip,
    },
    Group {
        name: "open",
        about: "an open loop at half of what a closed one came to",
        quick: false,
        run: loads::open,
    },
];
