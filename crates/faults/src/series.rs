//! Many cases: two at a time, for mostly they wait, and one at a time where time is measured.

use crate::{
    cases::Case,
    peer::Peer,
    report::{self, Report},
    run::{hold_to_time, run},
};
use anyhow::Context;
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// Cases, and what became of them so far.
#[derive(Debug)]
pub struct Series<'a> {
    cases: &'a [&'static Case],
    seed: u64,
    /// Where the list of results goes.
    file: &'a Path,
    peer: Option<&'a Peer>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    /// By the place of the case.
    reports: HashMap<usize, Report>,
    peer_lost: HashMap<&'static str, u64>,
}

impl<'a> Series<'a> {
    /// Nothing is done yet. The list of results goes into this file.
    #[must_use]
    pub fn new(
        cases: &'a [&'static Case],
        seed: u64,
        file: &'a Path,
        peer: Option<&'a Peer>,
    ) -> Self {
        Self {
            cases,
            seed,
            file,
            peer,
            done: Mutex::default(),
        }
    }

    /// Runs all of them, and gives what became of them in their order. What is known so far is
    /// written whenever one is done, so that a run that is interrupted has its results too.
    pub fn run(self) -> anyhow::Result<Vec<Report>> {
        let (timed, others): (Vec<_>, Vec<_>) =
            (0..self.cases.len()).partition(|&place| self.cases[place].within.is_some());
        let next = AtomicUsize::new(0);
        let lane = || -> anyhow::Result<()> {
            while let Some(&place) = others.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.case(place)?;
            }
            Ok(())
        };
        thread::scope(|threads| {
            let second = threads.spawn(|| {
                self.peer();
                lane()
            });
            let first = lane();
            let second = second.join();
            first.and(second.unwrap_or_else(|_| anyhow::bail!("a case panicked")))
        })?;
        for place in timed {
            self.case(place)?;
        }
        Ok(self.change(|done| done.list()))
    }

    fn case(&self, place: usize) -> anyhow::Result<()> {
        let case = self.cases[place];
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let begun = Instant::now();
        let mut report = run(case, self.seed, folder);
        hold_to_time(case, &mut report);
        let verdict = match &report.skipped {
            Some(why) => format!("skipped: {why}"),
            None if report.is_well() => "well".to_owned(),
            None => format!("FAILED\n    {}", report.failures.join("\n    ")),
        };
        let seconds = begun.elapsed().as_secs();
        eprintln!("{:<29} {seconds:>4} s  {verdict}", case.name);
        let list = self.change(|done| {
            done.reports.insert(place, report);
            done.list()
        });
        report::write(self.file, &list).with_context(|| format!("writing {}", self.file.display()))
    }

    /// Breaks the peer in the same ways.
    fn peer(&self) {
        let Some(peer) = self.peer else { return };
        for case in self.cases {
            if let Some(lost) = peer.lost(case.name) {
                self.change(|done| done.peer_lost.insert(case.name, lost));
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Done) -> T) -> T {
        change(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Done {
    /// The reports so far, in the order of their cases.
    fn list(&self) -> Vec<Report> {
        let mut places: Vec<_> = self.reports.iter().collect();
        places.sort_unstable_by_key(|(place, _)| **place);
        let reports = places.into_iter().map(|(_, report)| Report {
            peer_lost: self.peer_lost.get(report.case.as_str()).copied(),
            ..report.clone()
        });
        reports.collect()
    }
}
