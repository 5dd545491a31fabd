//! How fast imgsys is, what it takes, and how that compares with the Python system that one would
//! write instead and with what the machine can do.
//!
//! | module | holds |
//! |---|---|
//! | `groups` | the rows of the report, in groups that are measured together |
//! | `bench` | what all of them share: systems under load, in turns |
//! | `system` | ours and the peer, started and looked at from outside |
//! | `load` | clients in a closed or an open loop, in one thread |
//! | `wire` | the two protocols, as cheap as can be |
//! | `image` | images that are unlike in their last bytes only |
//! | `processes` | processor time and memory, from /proc |
//! | `warm` | memory that was in use before |
//! | `limits` | what the machine can do, one thing at a time |
//! | `redis` | as much of Redis' protocol as that needs |
//! | `stats` | medians and percentiles |
//! | `report` | the rows, the runs, and how they are written |
//! | `figures` | what documents show of a report: a table, and plots |
//! | `document` | the parts of documents that are written here |
//! | `machine` | on what all this was measured |
//! | `scale` | growth past one machine, on paper |
//! | `cli` | the commands of `imgsys-bench` |
//!
//! Times on a busy machine say little, ratios within a run a lot: systems take turns, a few seconds
//! each, several times, and medians are compared.

mod bench;
mod cli;
mod document;
mod figures;
mod groups;
mod image;
mod limits;
mod load;
mod machine;
mod place;
mod processes;
mod redis;
mod report;
mod scale;
mod stats;
mod system;
mod warm;
mod wire;

pub use cli::{Cli, run};
