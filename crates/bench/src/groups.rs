//! The rows of the report, in groups that are measured together.

mod backlog;
mod history;
mod idle;
mod loads;
mod memory;
mod photos;
mod uploads;

use crate::bench::Bench;

/// Rows that are measured together.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// Whether it is part of a quick benchmark.
    pub(crate) quick: bool,
    /// Measures it.
    pub(crate) run: fn(&mut Bench) -> anyhow::Result<()>,
}

/// All groups, in the order in which they run: first what the compared systems serve.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "memory",
        about: "the programs' memory when they are idle",
        quick: true,
        run: memory::idle,
    },
    Group {
        name: "10k",
        about: "images of 10 KB: CPU, images a second, p99 beside p50",
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
    Group {
        name: "idle",
        about: "5 000 idle connections: their memory, and an image's time beside them",
        quick: true,
        run: idle::connections,
    },
    Group {
        name: "photos",
        about: "photographs decoded and inspected: the share of analysis",
        quick: true,
        run: photos::share,
    },
    Group {
        name: "uploads",
        about: "64 uploads of 64 MiB at once: the server's memory",
        quick: true,
        run: uploads::large,
    },
    Group {
        name: "backlog",
        about: "what jobs that wait cost, and a server that starts with a million of them",
        quick: false,
        run: backlog::waiting,
    },
    Group {
        name: "history",
        about: "pages of a history of five million jobs, by every filter",
        quick: false,
        run: history::pages,
    },
    Group {
        name: "limits",
        about: "what the machine can do, and how much of it an image of 10 KB takes",
        quick: true,
        run: loads::limits,
    },
];
