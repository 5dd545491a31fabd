//! The promise, checked in the database: every accepted job has exactly one row, and its row says
//! what its client was told.

use imgsys_faults::invariants::check_answers;
use imgsys_local::Stack;
use imgsys_types::{JobId, JobResult};
use std::{collections::HashMap, time::Duration};

/// Waits until all is quiet, then checks every answer against its row.
pub(crate) fn check(stack: &Stack, answers: &HashMap<JobId, JobResult>) {
    let url = stack.postgres().url();
    let wrong = check_answers(&url, answers, Duration::from_secs(60)).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}
