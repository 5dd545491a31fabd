//! Jobs in Redis without the event of their acceptance.

use super::Book;
use imgsys_types::Run;
use std::time::Duration;

impl Book {
    /// Runs that were sent at least `age` ago, and have not ended nor been told of; from now on they count
    /// as told. Then whether there are others, not as old.
    pub(crate) fn untold(&mut self, age: Duration) -> (Vec<Run>, bool) {
        let (mut due, mut more) = (Vec::new(), false);
        for sent in self.sent.values_mut().filter(|sent| !sent.told) {
            if sent.confirmed && sent.since.elapsed() >= age {
                sent.told = true;
                due.push(Run::clone(&sent.run));
            } else {
                more = true;
            }
        }
        (due, more)
    }

    /// These have not been told of after all.
    pub(crate) fn not_told(&mut self, runs: &[Run]) {
        for run in runs {
            if let Some(sent) = self.sent.get_mut(&run.job.id) {
                sent.told = false;
            }
        }
    }
}
