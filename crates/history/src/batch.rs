//! The events of a batch, one line a job, as the columns of the statements that write them.

use crate::value::{State, bits, count, properties, scores, text, time};
use imgsys_types::{Job, JobRecord, JobResult, MAX_NAME, Outcome, Properties, Score, clean_name};
use postgres_types::{Json, ToSql};
use std::{borrow::Cow, time::SystemTime};
use uuid::Uuid;

/// All that a batch says of a job.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    job: &'a Job,
    /// One a run: of two results of the same run the first to be added counts.
    results: Vec<&'a JobResult>,
}

impl<'a> Line<'a> {
    fn new(record: &'a JobRecord) -> Self {
        Self {
            job: &record.job,
            results: record.result.iter().collect(),
        }
    }

    fn add(&mut self, record: &'a JobRecord) {
        if let Some(result) = &record.result
            && !self.results.iter().any(|known| known.run == result.run)
        {
            self.results.push(result);
        }
    }

    /// Whether the event is of the same job; the id alone does not tell.
    pub(crate) fn is_of(&self, job: &Job) -> bool {
        self.job.id == job.id && self.job.owner == job.owner && self.job.sha256 == job.sha256
    }

    pub(crate) fn id(&self) -> Uuid {
        self.job.id.uuid()
    }

    fn newest(&self) -> Option<&'a JobResult> {
        self.results.iter().copied().max_by_key(|result| result.run)
    }
}

/// The lines of a batch in the order of their ids, so that two writers never lock rows crosswise.
///
/// Events that share an id but not owner and digest are in different rounds, the first to come in
/// the first: a round has each id once. There is one round unless somebody's id is taken.
///
/// `told` are the places of events that stand whatever else the batch says, in order.
pub(crate) fn rounds<'a>(records: &[&'a JobRecord], told: &[usize]) -> Vec<Vec<Line<'a>>> {
    let mut sorted: Vec<_> = records.iter().copied().enumerate().collect();
    // Stable: events of the same id stay in the order in which they came.
    sorted.sort_by_key(|(place, record)| (record.job.id, told.binary_search(place).is_err()));
    let mut rounds: Vec<Vec<Line<'a>>> = Vec::new();
    'events: for (_, record) in sorted {
        for round in &mut rounds {
            match round.last_mut() {
                Some(line) if line.is_of(&record.job) => line.add(record),
                Some(line) if line.job.id == record.job.id => continue,
                _ => round.push(Line::new(record)),
            }
            continue 'events;
        }
        rounds.push(vec![Line::new(record)]);
    }
    rounds
}

/// The columns by which a job is told from others.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a> {
    id: Vec<Uuid>,
    owner: Vec<&'a str>,
    sha256: Vec<&'a [u8]>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, job: &'a Job) {
        self.id.push(job.id.uuid());
        self.owner.push(job.owner.as_str());
        self.sha256.push(job.sha256.as_bytes());
    }

    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.id, &self.owner, &self.sha256]
    }
}

/// The columns of `jobs`.
#[derive(Debug, Default)]
pub(crate) struct Jobs<'a> {
    pub(crate) keys: Keys<'a>,
    name: Vec<Cow<'a, str>>,
    bytes: Vec<i64>,
    priority: Vec<i16>,
    submitted_at: Vec<SystemTime>,
    server: Vec<Uuid>,
    state: Vec<State>,
    run: Vec<Option<i64>>,
    label: Vec<Option<Cow<'a, str>>>,
    confidence: Vec<Option<f64>>,
    finished_at: Vec<Option<SystemTime>>,
    analyzer: Vec<Option<Cow<'a, str>>>,
    analyzer_version: Vec<Option<Cow<'a, str>>>,
    model: Vec<Option<&'a [u8]>>,
    perceptual_hash: Vec<Option<i64>>,
}

impl<'a> Jobs<'a> {
    pub(crate) fn of(lines: &[Line<'a>]) -> Self {
        let mut jobs = Self::default();
        for line in lines {
            jobs.push(line);
        }
        jobs
    }

    fn push(&mut self, line: &Line<'a>) {
        let Line { job, .. } = line;
        self.keys.push(job);
        self.name.push(name(&job.name));
        self.bytes.push(count(job.size));
        self.priority.push(job.priority.get().into());
        self.submitted_at.push(time(job.submitted_at));
        self.server.push(job.server.uuid());
        let newest = line.newest();
        let analysis = match newest.map(|result| &result.outcome) {
            Some(Outcome::Done(analysis)) => Some(analysis),
            Some(Outcome::Failed(_)) | None => None,
        };
        self.state
            .push(newest.map_or(State::Queued, |result| State::from(result.outcome.state())));
        self.run.push(newest.map(|result| result.run.into()));
        self.label
            .push(analysis.map(|analysis| text(&analysis.label)));
        self.confidence
            .push(analysis.map(|analysis| analysis.confidence));
        self.finished_at
            .push(newest.map(|result| time(result.finished_at)));
        let analyzer = analysis.map(|analysis| &analysis.analyzer);
        self.analyzer
            .push(analyzer.map(|analyzer| text(&analyzer.name)));
        self.analyzer_version
            .push(analyzer.map(|analyzer| text(&analyzer.version)));
        let model = analyzer.and_then(|analyzer| analyzer.model.as_ref());
        self.model
            .push(model.map(|model| model.as_bytes().as_slice()));
        let hash = analysis.and_then(|analysis| analysis.properties.perceptual_hash);
        self.perceptual_hash.push(hash.map(bits));
    }

    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 17] {
        let [id, owner, sha256] = self.keys.params();
        [
            id,
            owner,
            sha256,
            &self.name,
            &self.bytes,
            &self.priority,
            &self.submitted_at,
            &self.server,
            &self.state,
            &self.run,
            &self.label,
            &self.confidence,
            &self.finished_at,
            &self.analyzer,
            &self.analyzer_version,
            &self.model,
            &self.perceptual_hash,
        ]
    }
}

fn name(name: &str) -> Cow<'_, str> {
    if name.len() > MAX_NAME {
        Cow::Owned(clean_name(name))
    } else {
        text(name)
    }
}

/// The columns of `predictions`, and the keys of the jobs they are of.
#[derive(Debug, Default)]
pub(crate) struct Predictions<'a> {
    keys: Keys<'a>,
    run: Vec<i64>,
    state: Vec<State>,
    analyzer: Vec<Option<Cow<'a, str>>>,
    analyzer_version: Vec<Option<Cow<'a, str>>>,
    model: Vec<Option<&'a [u8]>>,
    label: Vec<Option<Cow<'a, str>>>,
    confidence: Vec<Option<f64>>,
    scores: Vec<Option<Json<Cow<'a, [Score]>>>>,
    properties: Vec<Option<Json<Cow<'a, Properties>>>>,
    reason: Vec<Option<&'static str>>,
    detail: Vec<Option<Cow<'a, str>>>,
    worker: Vec<Option<Cow<'a, str>>>,
    attempts: Vec<i64>,
    queued_us: Vec<i64>,
    analysis_us: Vec<i64>,
    finished_at: Vec<SystemTime>,
}

impl<'a> Predictions<'a> {
    pub(crate) fn of(lines: &[Line<'a>]) -> Self {
        let mut predictions = Self::default();
        for line in lines {
            for result in &line.results {
                predictions.push(line.job, result);
            }
        }
        predictions
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    fn push(&mut self, job: &'a Job, result: &'a JobResult) {
        let (analysis, failure) = match &result.outcome {
            Outcome::Done(analysis) => (Some(analysis), None),
            Outcome::Failed(failure) => (None, Some(failure)),
        };
        self.keys.push(job);
        self.run.push(result.run.into());
        self.state.push(State::from(result.outcome.state()));
        self.analyzer.push(analysis.map(|a| text(&a.analyzer.name)));
        self.analyzer_version
            .push(analysis.map(|a| text(&a.analyzer.version)));
        let model = analysis.and_then(|a| a.analyzer.model.as_ref());
        self.model
            .push(model.map(|model| model.as_bytes().as_slice()));
        self.label.push(analysis.map(|a| text(&a.label)));
        self.confidence.push(analysis.map(|a| a.confidence));
        self.scores.push(analysis.map(|a| Json(scores(&a.scores))));
        self.properties
            .push(analysis.map(|a| Json(properties(&a.properties))));
        self.reason.push(failure.map(|f| f.reason.as_str()));
        self.detail.push(failure.map(|f| text(&f.detail)));
        self.worker.push(result.worker.as_deref().map(text));
        self.attempts.push(result.attempts.into());
        self.queued_us.push(count(result.queued_us));
        self.analysis_us.push(count(result.analysis_us));
        self.finished_at.push(time(result.finished_at));
    }

    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 19] {
        let [id, owner, sha256] = self.keys.params();
        [
            id,
            owner,
            sha256,
            &self.run,
            &self.state,
            &self.analyzer,
            &self.analyzer_version,
            &self.model,
            &self.label,
            &self.confidence,
            &self.scores,
            &self.properties,
            &self.reason,
            &self.detail,
            &self.worker,
            &self.attempts,
            &self.queued_us,
            &self.analysis_us,
            &self.finished_at,
        ]
    }
}

/// Results, as what they are told apart by.
#[derive(Debug, Default)]
pub(crate) struct Ends<'a> {
    keys: Keys<'a>,
    run: Vec<i64>,
    finished_at: Vec<SystemTime>,
    /// The places of their events.
    pub(crate) places: Vec<usize>,
}

impl<'a> Ends<'a> {
    /// The results among these events.
    pub(crate) fn of(events: impl Iterator<Item = (usize, &'a JobRecord)>) -> Self {
        let mut ends = Self::default();
        for (place, record) in events {
            if let Some(result) = &record.result {
                ends.keys.push(&record.job);
                ends.run.push(result.run.into());
                ends.finished_at.push(time(result.finished_at));
                ends.places.push(place);
            }
        }
        ends
    }

    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 5] {
        let [id, owner, sha256] = self.keys.params();
        [id, owner, sha256, &self.run, &self.finished_at]
    }
}
