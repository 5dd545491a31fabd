//! The queue: how images get from servers to workers, and results back, through Redis.
//!
//! docs/queue.md is the norm, from which a worker or producer in any language can be written.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`] | the names of everything in Redis |
//! | [`producer`] | [`Producer`]: a server sends tasks, asks what became of jobs, cancels |
//! | [`mod@listen`] | [`listen()`]: a server hears of results and commits |
//! | [`worker`] | [`work`]: takes tasks, has them analysed, ends them; crash-safe |
//! | [`mod@dead`] | [`DeadLetters`]: what was set aside is looked at, tried again, dropped |
//! | [`events`] | the stream of events, as a persister reads it |
//! | `task`, `incoming` | the task's message, as it is written and as it is read |
//! | `json` | texts in JSON that is written for every image |
//! | `canvas` | what a message wants done after its task: callbacks, chains |
//! | `analyses` | [`Analyses`]: what workers keep so that an image is not analysed twice |
//! | `scripts`, `lua/` | what happens in Redis as a whole |
//! | `address` | the connection string of a Redis, and the names of its keys |
//! | `link`, `subscription` | connections that come back by themselves |
//! | `measure` | what a task costs without Redis, for benchmarks |
//! | `monitor` | events and remote control, for programs written for Celery |
//!
//! Delivery is at least once; what a task brings about happens exactly once, because finishing is
//! one script that looks at the job's mark in `open`.

pub mod dead;
pub mod events;
pub mod keys;
pub mod listen;
#[doc(hidden)]
pub mod measure;
pub mod producer;
pub mod worker;

mod address;
mod analyses;
mod canvas;
mod celery_result;
mod error;
mod incoming;
mod json;
mod link;
mod monitor;
mod scripts;
mod subscription;
mod task;

pub use address::AddressError;
pub use analyses::Analyses;
pub use dead::{DeadLetter, DeadLetters, Revived};
pub use error::QueueError;
pub use listen::{Persisted, ServerEvent, listen};
pub use monitor::events::CeleryEvents;
pub use producer::{Cancelled, Depth, OpenState, Producer};
pub use task::Task;
pub use worker::{Analyze, AnalyzeTask, Begun, Drained, Verdict, WorkerOptions, work};
