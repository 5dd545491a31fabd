//! `imgsys history`

use super::{print, runs};
use crate::{
    caller::Caller,
    cli::History,
    context::Context,
    error::{ClientError, Exit},
    line::{CSV_HEADER, Line, csv_row, job_time, json_line},
    reporter::percent,
    screen::{Paint, Screen},
    table::{Cell, Column, Table},
    times::{Span, local},
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{HistoryRequest, Page},
};
use imgsys_types::{Cursor, HistoryFilter, JobRecord, Outcome, Whose};

/// Jobs that are asked for at once; what is printed is held in memory a page at a time.
const PAGE: u64 = 1000;

/// Shows jobs of the past, page by page.
pub(crate) async fn run(args: History, context: Context) -> Result<Exit, ClientError> {
    let screen = &context.screen;
    let mut caller = Caller::new(&context);
    let mut printer = Printer::new(&args, screen);
    let (filter, whose) = (args.filter.wire(), args.whose.wire());
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut after = None;
    let (mut shown, mut warned) = (0_u64, false);
    while left > 0 {
        let limit = u32::try_from(left.min(PAGE)).unwrap_or(u32::MAX);
        let page = fetch(&mut caller, limit, after, &filter, whose.as_ref()).await?;
        if page.partial && !warned {
            warned = true;
            screen.error("warning: the server can't reach its database; only jobs that it still holds are shown");
        }
        let jobs = page.jobs.get(..limit as usize).unwrap_or(&page.jobs);
        if args.all_runs {
            for record in jobs {
                printer.page(&runs::all(&mut caller, record.clone()).await?)?;
            }
        } else {
            printer.page(jobs)?;
        }
        shown += jobs.len() as u64;
        left -= (jobs.len() as u64).min(left);
        if screen.is_closed() || page.next.is_none() {
            break;
        }
        if page.next == after {
            return Err(ClientError::Nonsense);
        }
        after = page.next;
    }
    printer.end()?;
    if shown == 0 {
        screen.note("no such jobs");
    }
    Ok(Exit::Ok)
}

pub(super) async fn fetch(
    caller: &mut Caller<'_>,
    limit: u32,
    after: Option<Cursor>,
    filter: &HistoryFilter,
    whose: Option<&Whose>,
) -> Result<Page, ClientError> {
    let answer = caller.call(|req| {
        ClientMessage::History(HistoryRequest {
            req,
            limit,
            after,
            filter: filter.clone(),
            owner: whose.cloned(),
        })
    });
    match answer.await? {
        ServerMessage::Page(page) => Ok(page),
        _ => Err(ClientError::Nonsense),
    }
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Csv,
}

/// Prints pages in one of three forms.
struct Printer<'a> {
    screen: &'a Screen,
    form: Form,
    /// Whether to say which run a result is of.
    runs: bool,
    /// Whether to say whose a job is.
    owners: bool,
    table: Table,
    header_due: bool,
}

impl<'a> Printer<'a> {
    fn new(args: &History, screen: &'a Screen) -> Self {
        let owners = args.whose.wire() == Some(Whose::All);
        let mut columns = vec![
            Column::left("SUBMITTED", 19),
            Column::left("JOB", 36),
            Column::left("NAME", 24).gives_way(),
            Column::left("STATE", 6),
            Column::left("LABEL", 20),
            Column::right("CONFIDENCE", 10),
            Column::right("TIME", 8),
            Column::left("NOTE", 8),
        ];
        if owners {
            columns.insert(1, Column::left("OWNER", 10));
        }
        Self {
            screen,
            form: match (args.json, args.csv) {
                (true, _) => Form::Json,
                (false, true) => Form::Csv,
                (false, false) => Form::Table,
            },
            runs: args.all_runs,
            owners,
            table: Table::new(columns),
            header_due: !args.json,
        }
    }

    fn page(&mut self, jobs: &[JobRecord]) -> Result<(), ClientError> {
        if self.form == Form::Json {
            let lines: Result<String, _> = jobs
                .iter()
                .map(|record| json_line(&Line::from(record)))
                .collect();
            let lines =
                lines.map_err(|error| ClientError::Plain(format!("writing JSON: {error}")))?;
            return print(self.screen, &lines);
        }
        if self.form == Form::Csv {
            return self.csv(jobs);
        }
        let mut lines = String::new();
        if self.header_due && !jobs.is_empty() {
            self.header_due = false;
            let names = jobs.iter().map(|record| record.job.name.as_str());
            self.table.fit("NAME", names);
            lines.push_str(&self.table.header(self.screen));
        }
        for record in jobs {
            lines.push_str(&self.table.row(&self.row(record), self.screen));
        }
        print(self.screen, &lines)
    }

    fn csv(&mut self, jobs: &[JobRecord]) -> Result<(), ClientError> {
        let wrong = |error: csv::Error| ClientError::Plain(format!("writing CSV: {error}"));
        let mut writer = csv::Writer::from_writer(Vec::new());
        if std::mem::take(&mut self.header_due) {
            writer.write_record(CSV_HEADER).map_err(wrong)?;
        }
        for record in jobs {
            writer.write_record(csv_row(record)).map_err(wrong)?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|error| wrong(error.into_error().into()))?;
        self.screen
            .write(&bytes)
            .map_err(ClientError::local("writing to standard output"))
    }

    /// A CSV file has a header even if it has no rows.
    fn end(&mut self) -> Result<(), ClientError> {
        if self.form == Form::Csv {
            self.csv(&[])
        } else {
            Ok(())
        }
    }

    fn row(&self, record: &JobRecord) -> Vec<Cell> {
        let dash = || "-".to_owned();
        let (paint, label, confidence, note) =
            match record.result.as_ref().map(|result| &result.outcome) {
                None => (Paint::Yellow, dash(), dash(), String::new()),
                Some(Outcome::Done(analysis)) => (
                    Paint::Green,
                    analysis.label.clone(),
                    percent(analysis.confidence),
                    String::new(),
                ),
                Some(Outcome::Failed(failure)) => (Paint::Red, dash(), dash(), failure.to_string()),
            };
        let note = match &record.result {
            Some(result) if self.runs => format!("run {} {note}", result.run),
            _ => note,
        };
        let time = record
            .result
            .as_ref()
            .map_or_else(dash, |result| Span(job_time(result)).to_string());
        let mut row = vec![
            Cell::new(&local(record.job.submitted_at)),
            Cell::new(&record.job.id.to_string()),
            Cell::new(&record.job.name),
            Cell::painted(record.state().as_str(), paint),
            Cell::new(&label),
            Cell::new(&confidence),
            Cell::new(&time),
            Cell::new(&note),
        ];
        if self.owners {
            row.insert(1, Cell::new(record.job.owner.as_str()));
        }
        row
    }
}
