//! `imgsys show`

use super::{listing, print, print_json, runs};
use crate::{
    caller::Caller,
    cli::Show,
    context::Context,
    error::{ClientError, Exit},
    line::Line,
    reporter::percent,
    times::{Span, local},
};
use imgsys_proto::{ClientMessage, ServerMessage, message::JobRequest};
use imgsys_types::{Analysis, JobId, JobRecord, JobResult, Outcome};
use serde_json::Value;
use std::time::Duration;

/// Shows all that is known of a job.
pub(crate) async fn run(args: Show, context: Context) -> Result<Exit, ClientError> {
    let mut caller = Caller::new(&context);
    let record = fetch(&mut caller, args.job).await?;
    let records = if args.all_runs {
        runs::all(&mut caller, record).await?
    } else {
        vec![record]
    };
    for (number, record) in records.iter().enumerate() {
        if args.json {
            print_json(&context.screen, &Line::from(record))?;
            continue;
        }
        if number > 0 {
            print(&context.screen, "\n")?;
        }
        print(&context.screen, &listing(&pairs(record)))?;
    }
    Ok(Exit::Ok)
}

/// Asks for a job.
pub(super) async fn fetch(caller: &mut Caller<'_>, job: JobId) -> Result<JobRecord, ClientError> {
    match caller
        .call(|req| ClientMessage::Show(JobRequest { req, job }))
        .await?
    {
        ServerMessage::Job(answer) if answer.record.job.id == job => Ok(answer.record),
        _ => Err(ClientError::Nonsense),
    }
}

fn pairs(record: &JobRecord) -> Vec<(&'static str, String)> {
    let job = &record.job;
    let mut pairs = vec![
        ("job", job.id.to_string()),
        ("name", job.name.clone()),
        ("state", record.state().to_string()),
        ("size", format!("{} bytes", job.size)),
        ("sha256", job.sha256.to_string()),
        ("owner", job.owner.to_string()),
        ("priority", job.priority.get().to_string()),
        ("submitted", local(job.submitted_at)),
        ("server", job.server.to_string()),
    ];
    if let Some(result) = &record.result {
        add_result(&mut pairs, result);
    }
    pairs
}

fn add_result(pairs: &mut Vec<(&'static str, String)>, result: &JobResult) {
    match &result.outcome {
        Outcome::Done(analysis) => add_analysis(pairs, analysis),
        Outcome::Failed(failure) => {
            pairs.push(("reason", failure.reason.to_string()));
            pairs.push(("detail", failure.detail.clone()));
        }
    }
    let span = |micros| Span(Duration::from_micros(micros)).to_string();
    pairs.push(("finished", local(result.finished_at)));
    pairs.push(("queued", span(result.queued_us)));
    pairs.push(("analysis", span(result.analysis_us)));
    pairs.push((
        "worker",
        result.worker.clone().unwrap_or_else(|| "-".into()),
    ));
    pairs.push(("attempts", result.attempts.to_string()));
    pairs.push(("run", result.run.to_string()));
}

fn add_analysis(pairs: &mut Vec<(&'static str, String)>, analysis: &Analysis) {
    let analyzer = &analysis.analyzer;
    pairs.push(("label", analysis.label.clone()));
    pairs.push(("confidence", percent(analysis.confidence)));
    for score in &analysis.scores {
        pairs.push((
            "score",
            format!("{} {}", percent(score.confidence), score.label),
        ));
    }
    pairs.push((
        "analyzer",
        format!("{} {}", analyzer.name, analyzer.version),
    ));
    if let Some(model) = analyzer.model {
        pairs.push(("model", model.to_string()));
    }
    let properties = &analysis.properties;
    pairs.push(("format", properties.format.clone()));
    pairs.push((
        "pixels",
        format!("{} x {}", properties.width, properties.height),
    ));
    // The rest is as many-sided as analyzers are, so it is told by the names it has in JSON.
    if let Ok(Value::Object(all)) = serde_json::to_value(properties) {
        for (name, value) in all {
            if !["format", "width", "height"].contains(&name.as_str()) {
                add_property(pairs, &name, &value);
            }
        }
    }
}

/// Adds a property, or each of those within it under its path.
fn add_property(pairs: &mut Vec<(&'static str, String)>, path: &str, value: &Value) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                add_property(pairs, &format!("{path}.{name}"), value);
            }
        }
        Value::Array(inner) => {
            for value in inner {
                add_property(pairs, path, value);
            }
        }
        Value::String(text) => pairs.push(("property", format!("{path} = {text}"))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            pairs.push(("property", format!("{path} = {value}")));
        }
    }
}
