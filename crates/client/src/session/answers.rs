//! What a server's messages change in a session, and how a job moves from stage to stage.

use super::{Action, Body, Pending, Session, entry::Stage};
use crate::report::{End, reason};
use imgsys_proto::{
    ServerMessage,
    message::{Accepted, JobAnswer, JobEnd, Rejected, SendBody, Watching},
};
use imgsys_types::{ErrorCode, JobId};
use std::time::{Duration, Instant};

impl Session {
    /// A message came. Messages that nobody asked for are passed over.
    pub(crate) fn receive(&mut self, message: ServerMessage, now: Instant) {
        match message {
            ServerMessage::Accepted(accepted) => self.on_accepted(accepted, now),
            ServerMessage::SendBody(send) => self.on_send_body(send, now),
            ServerMessage::Rejected(rejected) => self.on_rejected(rejected, now),
            ServerMessage::Result(end) => self.on_result(end, now),
            ServerMessage::Watching(watching) => self.on_watching(watching, now),
            ServerMessage::Job(answer) => self.on_job(answer, now),
            ServerMessage::Welcome(_)
            | ServerMessage::Page(_)
            | ServerMessage::Status(_)
            | ServerMessage::Image(_)
            | ServerMessage::Cancelled(_)
            | ServerMessage::Deleted(_)
            | ServerMessage::Reanalyzing(_)
            | ServerMessage::Runs(_)
            | ServerMessage::Similar(_)
            | ServerMessage::Pong(_)
            | ServerMessage::Goodbye(_) => {}
        }
    }

    fn on_accepted(&mut self, accepted: Accepted, now: Instant) {
        self.pending.remove(&accepted.req);
        let job = accepted.job;
        let Some(entry) = self.entries.get_mut(&job) else {
            return; // its result came first
        };
        if !matches!(entry.stage, Stage::Asking | Stage::Sending) {
            return;
        }
        // After a lost answer the server may know these bytes from this very job.
        entry.duplicate = Some(accepted.duplicate && entry.cuts == 0);
        entry.submitted_at = Some(accepted.submitted_at);
        entry.kept = None;
        entry.refused_since = None;
        entry.cuts = 0;
        entry.backoff.reset();
        self.accept(job);
        if self.rules.wait {
            self.set(job, Stage::Watching);
        } else {
            self.end(job, End::Accepted, now);
        }
    }

    fn on_send_body(&mut self, send: SendBody, now: Instant) {
        self.pending.remove(&send.req);
        let job = send.job;
        match self.stage(job) {
            Some(Stage::Asking) => {}
            Some(Stage::Sending) => {
                let text = "the server asks again for bytes that it was sent";
                return self.refuse_for_now(&[job], ErrorCode::Internal, text, None, now);
            }
            _ => return,
        }
        let Some(submit) = self.submit(job) else {
            return;
        };
        let Some(entry) = self.entries.get(&job) else {
            return;
        };
        let body = match (&entry.kept, &entry.file) {
            (Some(kept), _) => Body::Kept(kept.clone()),
            (None, Some(file)) => Body::File {
                path: file.path.clone(),
                size: file.size,
            },
            (None, None) => return,
        };
        self.set(job, Stage::Sending);
        self.ready.push_back(Action::SendBody { job, submit, body });
    }

    fn on_rejected(&mut self, rejected: Rejected, now: Instant) {
        let Rejected {
            req,
            code,
            text,
            retry_after_ms,
            ..
        } = rejected;
        let Some(about) = self.pending.remove(&req) else {
            return;
        };
        if code == ErrorCode::NotAllowed && !matches!(about, Pending::Name(_)) {
            self.refusal.get_or_insert((code, text));
            return;
        }
        let after = retry_after_ms.map(Duration::from_millis);
        match about {
            // A result without a name is still a result.
            Pending::Name(job) => self.end_named(job, now),
            Pending::Submit(job)
                if !self.entries.get(&job).is_some_and(super::Entry::in_flight) => {}
            Pending::Submit(job) if code.is_transient() => {
                self.refuse_for_now(&[job], code, &text, after, now);
            }
            Pending::Submit(job) => match code {
                // The digest was right when the file was hashed.
                ErrorCode::DigestMismatch | ErrorCode::SizeMismatch => {
                    let detail = "the file was changed while it was being sent".to_owned();
                    self.fail(job, reason::CHANGED, detail, now);
                }
                _ => self.fail(job, code.as_str(), text, now),
            },
            Pending::Watch(jobs) if code.is_transient() => {
                self.refuse_for_now(&jobs, code, &text, after, now);
            }
            Pending::Watch(jobs) => {
                for job in jobs {
                    if self.stage(job) == Some(&Stage::Watching) {
                        self.end(job, End::Pending(format!("{code}: {text}")), now);
                    }
                }
            }
        }
    }

    fn on_result(&mut self, end: JobEnd, now: Instant) {
        let JobEnd {
            job,
            sha256,
            result,
        } = end;
        let Some(entry) = self.entries.get_mut(&job) else {
            return; // told already
        };
        if !entry.submitted || *entry.sha256.get_or_insert(sha256) != sha256 {
            return; // the result of another image: it does not count
        }
        if entry.file.is_some() {
            self.end(job, End::Answered(Box::new(result)), now);
        } else if matches!(
            entry.stage,
            Stage::Watch | Stage::Watching | Stage::Later(_)
        ) {
            self.set(job, Stage::Name(Box::new(result)));
        }
    }

    fn on_watching(&mut self, watching: Watching, now: Instant) {
        self.pending.remove(&watching.req);
        for job in watching.unknown {
            let Some(entry) = self.entries.get_mut(&job) else {
                continue;
            };
            if entry.stage != Stage::Watching {
                continue;
            }
            if entry.file.is_some() {
                // The server has lost its disk, or is another one: the file is still here.
                entry.accepted = false;
                entry.submitted_at = None;
                self.accepted -= 1;
                self.set(job, Stage::Ask);
            } else {
                entry.accepted = false;
                self.accepted -= 1;
                let detail = "the server knows of no such job".to_owned();
                self.fail(job, ErrorCode::UnknownJob.as_str(), detail, now);
            }
        }
    }

    fn on_job(&mut self, answer: JobAnswer, now: Instant) {
        let Some(Pending::Name(job)) = self.pending.remove(&answer.req) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&job)
            && answer.record.job.id == job
        {
            let known = answer.record.job;
            entry.submitted_at = Some(known.submitted_at);
            entry.file = Some(crate::files::Found {
                path: std::path::PathBuf::default(),
                name: known.name,
                size: known.size,
            });
        }
        self.end_named(job, now);
    }

    fn end_named(&mut self, job: JobId, now: Instant) {
        if let Some(Stage::Naming(result)) = self.stage(job) {
            let end = End::Answered(result.clone());
            self.end(job, end, now);
        }
    }

    /// Puts jobs off that were refused for now, all to the same moment; ends those that have been
    /// refused for too long.
    fn refuse_for_now(
        &mut self,
        jobs: &[JobId],
        code: ErrorCode,
        text: &str,
        after: Option<Duration>,
        now: Instant,
    ) {
        let mut pause = after;
        for &job in jobs {
            let Some(entry) = self.entries.get_mut(&job) else {
                continue;
            };
            if !matches!(
                entry.stage,
                Stage::Asking | Stage::Sending | Stage::Watching
            ) {
                continue;
            }
            let since = *entry.refused_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.rules.patience {
                let end = if entry.accepted {
                    End::Pending(format!("{code}: {text}"))
                } else {
                    End::Failed {
                        reason: code.as_str(),
                        detail: text.to_owned(),
                    }
                };
                self.end(job, end, now);
                continue;
            }
            let own = entry.backoff.pause();
            let pause = *pause.get_or_insert(own);
            self.set(job, Stage::Later(now + pause.min(self.rules.patience)));
        }
    }

    /// Ends the story of a job that was not accepted.
    pub(super) fn fail(&mut self, job: JobId, reason: &'static str, detail: String, now: Instant) {
        self.end(job, End::Failed { reason, detail }, now);
    }

    pub(super) fn end(&mut self, job: JobId, end: End, now: Instant) {
        let Some(entry) = self.entries.remove(&job) else {
            return;
        };
        self.count(&entry.stage, false);
        if entry.accepted {
            self.accepted -= 1;
        }
        self.ready
            .push_back(Action::Report(entry.into_report(job, end, now)));
    }

    /// A server has promised to keep the job.
    fn accept(&mut self, job: JobId) {
        if let Some(entry) = self.entries.get_mut(&job)
            && !entry.accepted
        {
            entry.accepted = true;
            self.accepted += 1;
            self.ever_accepted = true;
        }
    }

    /// Moves a job to another stage and into the queue that belongs to it.
    pub(super) fn set(&mut self, job: JobId, stage: Stage) {
        match &stage {
            Stage::Ask => self.to_ask.push_back(job),
            Stage::Watch => self.to_watch.push_back(job),
            Stage::Name(_) => self.to_name.push_back(job),
            Stage::Later(at) => {
                self.later.insert((*at, job));
            }
            Stage::Hash => self.to_hash.push_back(job),
            Stage::Hashing
            | Stage::Asking
            | Stage::Sending
            | Stage::Watching
            | Stage::Naming(_) => {}
        }
        self.count(&stage, true);
        if let Some(entry) = self.entries.get_mut(&job) {
            let before = std::mem::replace(&mut entry.stage, stage);
            self.count(&before, false);
        }
    }

    /// Keeps the counters of stages.
    fn count(&mut self, stage: &Stage, entered: bool) {
        let counter = match stage {
            Stage::Asking | Stage::Sending => &mut self.in_flight,
            Stage::Watching => &mut self.watched,
            _ => return,
        };
        if entered {
            *counter += 1;
        } else {
            *counter -= 1;
        }
    }
}
