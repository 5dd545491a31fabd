//! What must never happen, and everything that is done to make it happen.
//!
//! The promise of imgsys is that an accepted image is never lost. Here the whole system is started,
//! put under load, and broken in every way that is known; then [`invariants`] are checked.
//!
//! | module | holds |
//! |---|---|
//! | [`invariants`] | what must be true in the end, whatever happened: the one place that says so |
//! | [`ledger`] | what the clients know: sent, accepted, answered |
//! | [`client`], [`load`] | a connection, and clients that never give up |
//! | [`images`], [`chance`] | small images, and random numbers that a seed repeats |
//! | [`scene`] | the system under load, with all that can be broken about it |
//! | [`alone`] | mounts and a network that nobody else sees |
//! | [`link`], [`disk`] | connections that can be made to hang, disks that can be filled |
//! | [`cases`] | the table of faults, a small function each |
//! | [`run`] | a case from its beginning to its verdict |
//! | [`series`] | many cases, two at a time |
//! | [`chaos`] | random faults, one after another |
//! | [`peer`] | the Python system, broken in the same way |
//! | [`report`] | the table on the terminal, and `report.json` |
//! | [`cli`] | the commands of `imgsys-faults` |
//!
//! Clocks, disks and signals are real; so are Redis, PostgreSQL and the programs, of which only the
//! poisoned worker is built here.

pub mod alone;
pub mod cases;
pub mod chance;
pub mod chaos;
pub mod cli;
pub mod client;
pub mod disk;
pub mod images;
pub mod invariants;
pub mod ledger;
pub mod link;
pub mod load;
pub mod peer;
pub mod report;
pub mod run;
pub mod scene;
pub mod series;
