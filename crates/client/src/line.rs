//! A job as one object: what `--json` and `--csv` print. The fields' names are a contract.

use crate::{
    clean::{clean, escape_json},
    report::{End, Report},
    times::{millis, rfc3339},
};
use imgsys_proto::message::SimilarJob;
use imgsys_types::{
    Analyzer, Digest, JobId, JobRecord, JobResult, JobState, Outcome, Properties, Score, ServerId,
};
use serde::Serialize;
use std::time::Duration;

/// A job or file. Fields that make no sense for it are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<JobState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analyzer: Option<&'a Analyzer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<&'a [Score]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a Properties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
}

impl<'a> From<&'a Report> for Line<'a> {
    fn from(report: &'a Report) -> Self {
        let mut line = Self {
            name: report.name.as_deref(),
            job: report.job,
            duplicate: report.duplicate,
            sha256: report.sha256,
            size: report.size,
            submitted_at: report.submitted_at.map(rfc3339),
            ..Self::default()
        };
        match &report.end {
            End::Answered(result) => line.add_result(result),
            End::Accepted => line.state = Some(JobState::Queued),
            End::Pending(detail) => {
                line.state = Some(JobState::Queued);
                line.detail = Some(detail);
            }
            End::Failed { reason, detail } => {
                line.state = Some(JobState::Failed);
                line.reason = Some(reason);
                line.detail = Some(detail);
            }
        }
        // What the sender has waited counts here.
        line.ms = Some(rounded(report.elapsed));
        line
    }
}

impl<'a> From<&'a JobRecord> for Line<'a> {
    fn from(record: &'a JobRecord) -> Self {
        let job = &record.job;
        let mut line = Self {
            name: Some(&job.name),
            job: Some(job.id),
            state: Some(JobState::Queued),
            sha256: Some(job.sha256),
            size: Some(job.size),
            priority: Some(job.priority.get()),
            owner: Some(job.owner.as_str()),
            server: Some(job.server),
            submitted_at: Some(rfc3339(job.submitted_at)),
            ..Self::default()
        };
        if let Some(result) = &record.result {
            line.add_result(result);
        }
        line
    }
}

impl<'a> From<&'a SimilarJob> for Line<'a> {
    fn from(similar: &'a SimilarJob) -> Self {
        Self {
            distance: Some(similar.distance),
            ..Self::from(&similar.record)
        }
    }
}

/// Milliseconds to the microsecond.
fn rounded(span: Duration) -> f64 {
    millis(Duration::from_micros(
        u64::try_from(span.as_micros()).unwrap_or(u64::MAX),
    ))
}

impl<'a> Line<'a> {
    fn add_result(&mut self, result: &'a JobResult) {
        self.state = Some(result.outcome.state());
        match &result.outcome {
            Outcome::Done(analysis) => {
                self.label = Some(&analysis.label);
                self.confidence = Some(analysis.confidence);
                self.analyzer = Some(&analysis.analyzer);
                self.scores = Some(&analysis.scores);
                self.properties = Some(&analysis.properties);
            }
            Outcome::Failed(failure) => {
                self.reason = Some(failure.reason.as_str());
                self.detail = Some(&failure.detail);
            }
        }
        self.ms = Some(rounded(job_time(result)));
        self.queued_ms = Some(rounded(Duration::from_micros(result.queued_us)));
        self.analysis_ms = Some(rounded(Duration::from_micros(result.analysis_us)));
        self.worker = result.worker.as_deref();
        self.attempts = Some(result.attempts);
        self.run = Some(result.run);
        self.finished_at = Some(rfc3339(result.finished_at));
    }
}

/// Any value as a line of JSON, safe to print.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut json = escape_json(&serde_json::to_string(value)?).into_owned();
    json.push('\n');
    Ok(json)
}

/// From acceptance to the end of the analysis.
pub(crate) fn job_time(result: &JobResult) -> Duration {
    Duration::from_micros(result.queued_us.saturating_add(result.analysis_us))
}

/// The columns of `--csv`.
pub(crate) const CSV_HEADER: [&str; 16] = [
    "submitted_at",
    "job",
    "name",
    "size",
    "sha256",
    "state",
    "label",
    "confidence",
    "reason",
    "detail",
    "analyzer",
    "version",
    "queued_ms",
    "analysis_ms",
    "worker",
    "finished_at",
];

/// A line of `--csv`, in the order of [`CSV_HEADER`].
pub(crate) fn csv_row(record: &JobRecord) -> [String; CSV_HEADER.len()] {
    let line = Line::from(record);
    let text = |text: Option<&str>| clean(text.unwrap_or_default()).into_owned();
    let number = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
    let job = &record.job;
    [
        line.submitted_at.clone().unwrap_or_default(),
        job.id.to_string(),
        text(line.name),
        job.size.to_string(),
        job.sha256.to_string(),
        record.state().to_string(),
        text(line.label),
        number(line.confidence),
        text(line.reason),
        text(line.detail),
        text(line.analyzer.map(|analyzer| analyzer.name.as_str())),
        text(line.analyzer.map(|analyzer| analyzer.version.as_str())),
        number(line.queued_ms),
        number(line.analysis_ms),
        text(line.worker),
        line.finished_at.clone().unwrap_or_default(),
    ]
}
