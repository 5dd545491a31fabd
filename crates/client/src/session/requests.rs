//! What a session asks for: which job is next, and the requests themselves.

use super::{Action, Pending, Session, entry::Stage};
use imgsys_proto::{
    ClientMessage,
    message::{JobRequest, Submit, Watch},
};
use imgsys_types::{ErrorCode, JobId, Limits};
use std::time::Instant;

/// Job ids in one `watch`: they take 17 bytes each and a head may have 64 KiB.
const WATCH_BATCH: usize = 2000;

impl Session {
    /// What is to be done next.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(action) = self.ready.pop_front() {
            return Some(action);
        }
        while let Some(&(at, job)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            if let Some(entry) = self.entries.get(&job)
                && entry.stage == Stage::Later(at)
            {
                let next = if entry.accepted {
                    Stage::Watch
                } else {
                    Stage::Ask
                };
                self.set(job, next);
            }
        }
        let limits = self.limits?;
        self.poll_watch(limits)
            .or_else(|| self.poll_name())
            .or_else(|| self.poll_ask(limits, now))
            .or_else(|| self.poll_hash(limits, now))
    }

    fn poll_watch(&mut self, limits: Limits) -> Option<Action> {
        let room = (limits.max_watched as usize)
            .max(1)
            .saturating_sub(self.watched);
        let mut jobs = Vec::new();
        while jobs.len() < room.min(WATCH_BATCH)
            && let Some(job) = self.to_watch.pop_front()
        {
            if self.stage(job) == Some(&Stage::Watch) {
                self.set(job, Stage::Watching);
                jobs.push(job);
            }
        }
        if jobs.is_empty() {
            return None;
        }
        let req = self.request(Pending::Watch(jobs.clone()));
        Some(Action::Send(ClientMessage::Watch(Watch { req, jobs })))
    }

    fn poll_name(&mut self) -> Option<Action> {
        while let Some(job) = self.to_name.pop_front() {
            if let Some(Stage::Name(result)) = self.stage(job) {
                let naming = Stage::Naming(result.clone());
                self.set(job, naming);
                let req = self.request(Pending::Name(job));
                return Some(Action::Send(ClientMessage::Show(JobRequest { req, job })));
            }
        }
        None
    }

    fn poll_ask(&mut self, limits: Limits, now: Instant) -> Option<Action> {
        while self.in_flight < self.submits_allowed()
            && let Some(job) = self.to_ask.pop_front()
        {
            if self.stage(job) != Some(&Stage::Ask) || self.is_over_limit(job, limits, now) {
                continue;
            }
            self.set(job, Stage::Asking);
            if let Some(submit) = self.submit(job) {
                return Some(Action::Send(submit));
            }
        }
        self.next_report()
    }

    fn poll_hash(&mut self, limits: Limits, now: Instant) -> Option<Action> {
        while let Some(job) = self.to_hash.pop_front() {
            if self.stage(job) != Some(&Stage::Hash) || self.is_over_limit(job, limits, now) {
                continue;
            }
            self.set(job, Stage::Hashing);
            let file = self.entries.get(&job).and_then(|entry| entry.file.as_ref());
            if let Some(file) = file {
                let path = file.path.clone();
                return Some(Action::Hash { job, path });
            }
        }
        self.next_report()
    }

    /// A report that came up on the way.
    fn next_report(&mut self) -> Option<Action> {
        self.ready.pop_front()
    }

    /// Ends the job if its file is one that the server would not take.
    fn is_over_limit(&mut self, job: JobId, limits: Limits, now: Instant) -> bool {
        let file = self.entries.get(&job).and_then(|entry| entry.file.as_ref());
        let Some(size) = file.map(|file| file.size) else {
            return false;
        };
        let (code, detail) = if size > limits.max_image {
            let most = limits.max_image;
            (
                ErrorCode::ImageTooLarge,
                format!("{size} bytes; the server takes at most {most}"),
            )
        } else if size == 0 {
            (ErrorCode::EmptyImage, "the file is empty".to_owned())
        } else {
            return false;
        };
        self.fail(job, code.as_str(), detail, now);
        true
    }

    /// The `submit` of a hashed file, with a new request number.
    pub(super) fn submit(&mut self, job: JobId) -> Option<ClientMessage> {
        let req = self.request(Pending::Submit(job));
        let entry = self.entries.get_mut(&job)?;
        entry.submitted = true;
        let file = entry.file.as_ref()?;
        Some(ClientMessage::Submit(Submit {
            req,
            job,
            name: imgsys_types::clean_name(&file.name),
            size: file.size,
            sha256: entry.sha256?,
            priority: self.rules.priority,
            watch: self.rules.wait,
        }))
    }
}
