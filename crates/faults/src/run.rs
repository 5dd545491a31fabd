//! A case from its beginning to its verdict.

use crate::{
    cases::{Case, Mark, Skipped},
    invariants::{self, Verdict},
    report::Report,
    scene::{PATIENCE, Scene, Stage},
};
use std::{fs, path::Path};

/// Answers that must still come once all is well again.
const AFTERWARDS: u64 = 160;

/// Runs a case. Logs of one that fails go into this folder.
#[must_use]
pub fn run(case: &Case, seed: u64, folder: &Path) -> Report {
    let mut report = Report::new(case.name);
    match attempt(case, seed, folder, &mut report) {
        Ok(()) => {}
        Err(problem) => match problem.downcast_ref::<Skipped>() {
            Some(Skipped(why)) => report.skipped = Some(why.clone()),
            None => report.failures.push(format!("{problem:#}")),
        },
    }
    report
}

/// Adds a failure if recovery took longer than is promised. That can be held against the system only
/// on a machine that has nothing else to do.
pub fn hold_to_time(case: &Case, report: &mut Report) {
    if let (Some(most), Some(took)) = (case.within, report.recovery_s)
        && took > most
    {
        let failure = format!("recovery took {took:.2} s, and {most} s are promised");
        report.failures.push(failure);
    }
}

fn attempt(case: &Case, seed: u64, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut stage = Stage::new(seed)?;
    (case.stage)(&mut stage)?;
    let mut scene = Scene::start(stage)?;
    scene.load()?;
    let mark = (case.act)(&scene).and_then(|mark| {
        scene.await_answers(AFTERWARDS)?;
        Ok(mark)
    });
    let done = conclude(&mut scene, report);
    report.recovery_s = mark.as_ref().ok().and_then(|mark| recovery(&scene, *mark));
    if mark.is_err() || done.is_err() || !report.failures.is_empty() {
        keep_logs(&scene, case.name, folder);
    }
    mark?;
    done
}

/// Waits for the clients and looks at everything.
pub(crate) fn conclude(scene: &mut Scene, report: &mut Report) -> anyhow::Result<()> {
    let hung = scene.finish();
    let ledger = scene.ledger();
    report.hung = hung as u64;
    report.sent = ledger.sent_count();
    report.accepted = ledger.accepted_count();
    report.answered = ledger.answered_count();
    let Verdict {
        rows,
        lost,
        doubled,
        wrong,
        rerun,
        failures,
    } = invariants::check(&scene.world(), ledger, PATIENCE)?;
    report.rows = rows;
    report.lost = lost;
    report.doubled = doubled;
    report.wrong = wrong;
    report.rerun = rerun;
    report.failures.extend(failures);
    if hung > 0 {
        report.failures.push(format!("{hung} clients hang"));
    }
    Ok(())
}

fn recovery(scene: &Scene, mark: Mark) -> Option<f64> {
    let ledger = scene.ledger();
    let (since, until) = match mark {
        Mark::Nothing => return None,
        Mark::Took(time) => return Some(time.as_secs_f64()),
        Mark::Answers(since) => (since, ledger.first_answer_after(since)?),
        Mark::Takeovers(since) => (since, ledger.last_takeover()?),
    };
    Some(until.saturating_duration_since(since).as_secs_f64())
}

/// What went wrong may be in there.
pub(crate) fn keep_logs(scene: &Scene, name: &str, folder: &Path) {
    let file = folder.join(format!("{name}.log"));
    match fs::create_dir_all(folder).and_then(|()| fs::write(&file, scene.logs())) {
        Ok(()) => eprintln!("  the last lines of all logs are in {}", file.display()),
        Err(problem) => eprintln!("  logs can't be kept: {problem}"),
    }
}
