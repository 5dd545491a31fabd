//! What lies between a worker and Redis, and may steal answers.

use imgsys_local::between::{Between, Ear, Passage};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Passes on all that is said. While it steals, the connection on which `marked` was said is closed
/// instead of passing on Redis' next answer: Redis has done what it was asked, and nobody is told.
pub struct Thief {
    between: Between,
    steals: Arc<AtomicBool>,
}

impl Thief {
    /// Steals from the beginning.
    pub fn before(socket: &Path, marked: &'static [u8]) -> Self {
        let steals = Arc::new(AtomicBool::new(true));
        let stealing = Arc::clone(&steals);
        let between = Between::before(socket, move || ears(marked, &stealing)).unwrap();
        Self { between, steals }
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.between.socket().display())
    }

    /// Steals nothing any more.
    pub fn reform(&self) {
        self.steals.store(false, Ordering::SeqCst);
    }
}

fn ears(marked: &'static [u8], steals: &Arc<AtomicBool>) -> (Ear, Ear) {
    let due = Arc::new(AtomicBool::new(false));
    let (falls_due, steals) = (Arc::clone(&due), Arc::clone(steals));
    let mut end = Vec::new();
    let asked = move |said: &[u8]| {
        end.extend_from_slice(said);
        if end.windows(marked.len()).any(|part| part == marked) {
            falls_due.store(true, Ordering::SeqCst);
            end.clear();
        }
        // It may come in two parts.
        end.drain(..end.len().saturating_sub(marked.len()));
        Passage::On
    };
    let answered = move |said: &[u8]| {
        // A script that Redis does not know was not run.
        let ran = !said.starts_with(b"-NOSCRIPT");
        if due.swap(false, Ordering::SeqCst) && ran && steals.load(Ordering::SeqCst) {
            return Passage::End;
        }
        Passage::On
    };
    (Box::new(asked), Box::new(answered))
}
