//! Tells reports to the user as they come, and sums them up in the end.

use crate::{
    context::Context,
    driver::Audience,
    error::{ClientError, Exit, chain},
    line::{Line, json_line},
    report::{End, Report},
    screen::{Paint, Screen},
    server::DEFAULT_SERVER,
    session::Session,
    table::{Cell, Column, Table},
    times::Span,
};
use imgsys_types::{JobId, Outcome};
use std::time::{Duration, Instant};

/// Ids of unfinished jobs that are named in the end.
const NAMED: usize = 8;
/// Between two looks at the progress; it goes on more often than anybody can read.
const PROGRESS: Duration = Duration::from_millis(100);

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A table of answers.
    Table,
    /// A table of accepted jobs.
    Accepted,
    /// A JSON object each.
    Json,
    /// The id of each accepted job; what failed is told on standard error.
    Ids,
}

/// How many reports of each kind there were.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    accepted: usize,
    failed: usize,
    duplicates: usize,
    pending: usize,
    pending_ids: Vec<JobId>,
}

/// Tells reports to the user.
pub(crate) struct Reporter {
    screen: Screen,
    address: String,
    form: Form,
    table: Table,
    header_due: bool,
    tally: Tally,
    began: Instant,
    progress_shown: Option<Instant>,
}

impl Reporter {
    /// A reporter that has told nothing yet.
    pub(crate) fn new(context: &Context, form: Form) -> Self {
        let columns = match form {
            Form::Accepted => vec![
                Column::left("JOB", 36),
                Column::left("NAME", 36).gives_way(),
                Column::left("NOTE", 24),
            ],
            Form::Table | Form::Json | Form::Ids => vec![
                Column::left("NAME", 36).gives_way(),
                Column::left("LABEL", 20),
                Column::right("CONFIDENCE", 10),
                Column::right("TIME", 8),
                Column::left("NOTE", 24),
            ],
        };
        Self {
            screen: context.screen.clone(),
            address: context.server.address.clone(),
            form,
            table: Table::new(columns),
            header_due: matches!(form, Form::Table | Form::Accepted),
            tally: Tally::default(),
            began: Instant::now(),
            progress_shown: None,
        }
    }

    fn lines(&mut self, report: &Report) -> Result<String, ClientError> {
        let mut lines = String::new();
        if std::mem::take(&mut self.header_due) {
            lines.push_str(&self.table.header(&self.screen));
        }
        match self.form {
            Form::Table => lines.push_str(&self.table.row(&answer_row(report), &self.screen)),
            Form::Accepted => lines.push_str(&self.table.row(&accepted_row(report), &self.screen)),
            Form::Json => {
                let json = json_line(&Line::from(report));
                let json =
                    json.map_err(|error| ClientError::Plain(format!("writing JSON: {error}")))?;
                lines.push_str(&json);
            }
            Form::Ids => match (&report.end, report.job) {
                (End::Failed { .. }, _) | (_, None) => {
                    self.screen
                        .error(&format!("{}: {}", title(report), note(report).0));
                }
                (_, Some(job)) => {
                    lines.push_str(&job.to_string());
                    lines.push('\n');
                }
            },
        }
        Ok(lines)
    }

    /// Says the last words and gives the exit code.
    pub(crate) fn finish(self, result: Result<(), ClientError>) -> Exit {
        self.screen.stop_bar();
        let tally = &self.tally;
        let Err(error) = result else {
            self.screen.note(&self.summary());
            let all_done = tally.failed + tally.pending == 0;
            return if all_done { Exit::Ok } else { Exit::Failed };
        };
        if let ClientError::Interrupted = error {
            let (accepted, total) = (tally.accepted(), tally.total());
            self.screen
                .error(&format!("interrupted: {accepted} of {total} accepted"));
        } else {
            self.screen.error(&chain(&error));
        }
        self.hint();
        error.exit()
    }

    /// How to go on with jobs that were accepted and not answered.
    fn hint(&self) {
        let Tally {
            pending,
            pending_ids,
            ..
        } = &self.tally;
        if *pending == 0 {
            return;
        }
        let program = if self.address == DEFAULT_SERVER {
            "imgsys".to_owned()
        } else {
            format!("imgsys --server {}", self.address)
        };
        if *pending > pending_ids.len() {
            self.screen.error(&format!(
                "{pending} accepted jobs go on without this program; see them with: {program} history --state queued"
            ));
        } else {
            let ids: Vec<String> = pending_ids.iter().map(ToString::to_string).collect();
            self.screen.error(&format!(
                "accepted jobs go on without this program; wait for them with: {program} wait {}",
                ids.join(" ")
            ));
        }
    }

    fn summary(&self) -> String {
        let Tally {
            done,
            accepted,
            failed,
            duplicates,
            pending,
            ..
        } = &self.tally;
        let total = self.tally.total();
        let parts: Vec<String> = [
            (done, "analysed"),
            (accepted, "accepted"),
            (failed, "failed"),
            (pending, "without an answer"),
            (duplicates, "known before"),
        ]
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        let parts = if parts.is_empty() {
            "nothing to do".to_owned()
        } else {
            parts.join(", ")
        };
        format!("{total} in {}: {parts}", Span(self.began.elapsed()))
    }
}

impl Tally {
    fn total(&self) -> usize {
        self.done + self.accepted + self.failed + self.pending
    }

    fn accepted(&self) -> usize {
        self.done + self.accepted + self.pending
    }

    fn count(&mut self, report: &Report) {
        match &report.end {
            End::Answered(result) => match result.outcome {
                Outcome::Done(_) => self.done += 1,
                Outcome::Failed(_) => self.failed += 1,
            },
            End::Accepted => self.accepted += 1,
            End::Failed { .. } => self.failed += 1,
            End::Pending(_) => {
                self.pending += 1;
                if let Some(job) = report.job
                    && self.pending_ids.len() < NAMED
                {
                    self.pending_ids.push(job);
                }
            }
        }
        self.duplicates += usize::from(report.duplicate == Some(true));
    }
}

impl Audience for Reporter {
    fn report(&mut self, report: Report) -> Result<(), ClientError> {
        self.tally.count(&report);
        let lines = self.lines(&report)?;
        self.screen
            .print(&lines)
            .map_err(ClientError::local("writing to standard output"))
    }

    fn progress(&mut self, session: &Session, all_found: bool) {
        if self
            .progress_shown
            .is_some_and(|shown| shown.elapsed() < PROGRESS)
        {
            return;
        }
        self.progress_shown = Some(Instant::now());
        self.screen.progress(|| {
            let (on_the_way, waiting) = (session.unaccepted(), session.accepted());
            let more = if all_found { "" } else { ", looking for more" };
            let Tally { done, failed, .. } = &self.tally;
            format!("{done} analysed, {failed} failed, {waiting} accepted, {on_the_way} on the way{more}")
        });
    }
}

fn title(report: &Report) -> String {
    match (&report.name, report.job) {
        (Some(name), _) => name.clone(),
        (None, Some(job)) => job.to_string(),
        (None, None) => "-".to_owned(),
    }
}

fn note(report: &Report) -> (String, Paint) {
    match &report.end {
        End::Answered(result) => match &result.outcome {
            Outcome::Done(_) => (origin(report), Paint::Plain),
            Outcome::Failed(failure) => (format!("failed: {failure}"), Paint::Red),
        },
        End::Accepted => (origin(report), Paint::Plain),
        End::Pending(detail) => (format!("queued: {detail}"), Paint::Yellow),
        End::Failed { reason, detail } => (format!("failed: {reason}: {detail}"), Paint::Red),
    }
}

fn origin(report: &Report) -> String {
    match report.duplicate {
        Some(true) => "duplicate",
        Some(false) => "new",
        None => "",
    }
    .to_owned()
}

/// A row of the table of answers.
fn answer_row(report: &Report) -> Vec<Cell> {
    let (note, paint) = note(report);
    let analysis = match &report.end {
        End::Answered(result) => match &result.outcome {
            Outcome::Done(analysis) => Some(analysis),
            Outcome::Failed(_) => None,
        },
        _ => None,
    };
    let (label, confidence) = analysis.map_or(("-".to_owned(), "-".to_owned()), |analysis| {
        (analysis.label.clone(), percent(analysis.confidence))
    });
    let time = if report.elapsed == Duration::ZERO {
        "-".to_owned()
    } else {
        Span(report.elapsed).to_string()
    };
    vec![
        Cell::new(&title(report)),
        Cell::painted(
            &label,
            if analysis.is_some() {
                Paint::Green
            } else {
                Paint::Plain
            },
        ),
        Cell::new(&confidence),
        Cell::new(&time),
        Cell::painted(&note, paint),
    ]
}

/// A row of the table of accepted jobs.
fn accepted_row(report: &Report) -> Vec<Cell> {
    let (note, paint) = note(report);
    let job = report
        .job
        .filter(|_| !matches!(report.end, End::Failed { .. }));
    let job = job.map_or_else(|| "-".to_owned(), |job| job.to_string());
    vec![
        Cell::new(&job),
        Cell::new(&title(report)),
        Cell::painted(&note, paint),
    ]
}

/// A confidence for people.
pub(crate) fn percent(confidence: f64) -> String {
    format!("{confidence:.1} %")
}
