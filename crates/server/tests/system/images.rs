//! Small images, each unlike any other.

pub(crate) use imgsys_faults::images::{Sample, sample};
