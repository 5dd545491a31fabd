//! A server as docs/protocol.md has it, and no better: it may answer in any order.

use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{
        Accepted, JobAnswer, JobEnd, JobRequest, Rejected, SendBody, Submit, Watch, Watching,
    },
};
use imgsys_types::{
    Digest, ErrorCode, Failure, FailureReason, Job, JobId, JobRecord, JobResult, Owner, Priority,
    ServerId, Timestamp,
};
use std::{collections::BTreeMap, time::Duration};

/// A job that the server has.
#[derive(Debug)]
struct Kept {
    sha256: Digest,
    /// Whether the connection is to be told how it ends.
    watched: bool,
    result: Option<JobResult>,
}

/// The server, and what it has said that was not heard yet.
#[derive(Debug, Default)]
pub(super) struct Model {
    jobs: BTreeMap<JobId, Kept>,
    answers: Vec<ServerMessage>,
    /// All results that a job ever had: one, unless the server lost its disk.
    given: BTreeMap<JobId, Vec<JobResult>>,
    results: u64,
}

impl Model {
    /// A job that somebody has sent before.
    pub(super) fn keep(&mut self, job: JobId, sha256: Digest) {
        let kept = Kept {
            sha256,
            watched: false,
            result: None,
        };
        self.jobs.entry(job).or_insert(kept);
    }

    /// All results that the job ever had.
    pub(super) fn given(&self, job: JobId) -> &[JobResult] {
        self.given.get(&job).map_or(&[], Vec::as_slice)
    }

    /// Does what it is asked. On a connection that is `dead` nobody hears the answer.
    pub(super) fn serve(&mut self, message: &ClientMessage, with_body: bool, dead: bool) {
        let said = self.answers.len();
        match message {
            ClientMessage::Submit(submit) => self.submit(submit, with_body, dead),
            ClientMessage::Watch(watch) => self.watch(watch, dead),
            ClientMessage::Show(request) => self.show(*request),
            other => panic!("{other:?}"),
        }
        if dead {
            self.answers.truncate(said);
        }
    }

    fn submit(&mut self, submit: &Submit, with_body: bool, dead: bool) {
        let Submit {
            req, job, sha256, ..
        } = *submit;
        let duplicate = self.jobs.values().any(|kept| kept.sha256 == sha256);
        if !with_body && !duplicate {
            let ask = SendBody { req, job };
            return self.answers.push(ServerMessage::SendBody(ask));
        }
        self.keep(job, sha256);
        self.answers.push(ServerMessage::Accepted(Accepted {
            req,
            job,
            duplicate,
            submitted_at: Timestamp::now(),
        }));
        self.watched(job, dead);
    }

    fn watch(&mut self, watch: &Watch, dead: bool) {
        let jobs = watch.jobs.iter().copied();
        let (known, unknown): (Vec<_>, _) = jobs.partition(|job| self.jobs.contains_key(job));
        let req = watch.req;
        let watching = ServerMessage::Watching(Watching { req, unknown });
        self.answers.push(watching);
        for job in known {
            self.watched(job, dead);
        }
    }

    fn watched(&mut self, job: JobId, dead: bool) {
        if let Some(kept) = self.jobs.get_mut(&job) {
            kept.watched |= !dead;
            self.tell(job);
        }
    }

    fn show(&mut self, JobRequest { req, job }: JobRequest) {
        let Some(kept) = self.jobs.get(&job) else {
            return self.reject(req, Some(job), ErrorCode::UnknownJob, None);
        };
        let record = JobRecord {
            job: Job {
                id: job,
                owner: Owner::local(),
                sha256: kept.sha256,
                name: "cat.jpg".into(),
                size: 1000,
                priority: Priority::default(),
                submitted_at: Timestamp::now(),
                server: ServerId::generate(),
            },
            result: kept.result.clone(),
        };
        self.answers
            .push(ServerMessage::Job(JobAnswer { req, record }));
    }

    /// Does not do what it is asked, for now.
    pub(super) fn refuse(&mut self, message: &ClientMessage, pause: Duration) {
        let (req, job) = match message {
            ClientMessage::Submit(submit) => (submit.req, Some(submit.job)),
            ClientMessage::Watch(watch) => (watch.req, None),
            ClientMessage::Show(request) => (request.req, Some(request.job)),
            other => panic!("{other:?}"),
        };
        self.reject(req, job, ErrorCode::Unavailable, Some(pause));
    }

    fn reject(&mut self, req: u64, job: Option<JobId>, code: ErrorCode, pause: Option<Duration>) {
        self.answers.push(ServerMessage::Rejected(Rejected {
            req,
            job,
            code,
            text: "the model says so".into(),
            retry_after_ms: pause.map(|pause| u64::try_from(pause.as_millis()).unwrap()),
        }));
    }

    /// One of the jobs that are under way ends, each in a way of its own.
    pub(super) fn finish(&mut self, pick: usize) {
        let is_open = |(_, kept): &(_, &mut Kept)| kept.result.is_none();
        let open = self.jobs.values().filter(|kept| kept.result.is_none());
        let count = open.count().max(1);
        let mut open = self.jobs.iter_mut().filter(is_open);
        let Some((&job, kept)) = open.nth(pick % count) else {
            return;
        };
        self.results += 1;
        let number = self.results.to_string();
        let result = JobResult::failed(0, Failure::new(FailureReason::Corrupt, number));
        kept.result = Some(result.clone());
        self.given.entry(job).or_default().push(result);
        self.tell(job);
    }

    /// Tells how one of the jobs that are watched has ended, as it may have been told before.
    pub(super) fn tell_again(&mut self, pick: usize) {
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        if let Some(&job) = jobs.get(pick % jobs.len().max(1)) {
            self.tell(job);
        }
    }

    fn tell(&mut self, job: JobId) {
        if let Some(Kept {
            sha256,
            watched: true,
            result: Some(result),
        }) = self.jobs.get(&job)
        {
            self.answers.push(ServerMessage::Result(JobEnd {
                job,
                sha256: *sha256,
                result: result.clone(),
            }));
        }
    }

    /// One of the answers: any, but for what must come before it.
    pub(super) fn answer(&mut self, pick: usize) -> Option<ServerMessage> {
        let index = pick % self.answers.len().max(1);
        let chosen = self.answers.get(index)?;
        let before = |message: &ServerMessage| match (message, chosen) {
            (ServerMessage::Accepted(accepted), ServerMessage::Result(end)) => {
                accepted.job == end.job
            }
            (ServerMessage::Watching(_), ServerMessage::Result(_)) => true,
            _ => false,
        };
        let first = self.answers[..index].iter().position(before);
        Some(self.answers.remove(first.unwrap_or(index)))
    }

    /// The connection is gone, with what was on its way and what it was to be told.
    pub(super) fn cut(&mut self) {
        self.answers.clear();
        for kept in self.jobs.values_mut() {
            kept.watched = false;
        }
    }

    /// It has a new disk.
    pub(super) fn wipe(&mut self) {
        self.cut();
        self.jobs.clear();
    }
}
