//! Single steps of a session, each by what it promises.

use super::*;
use crate::files::Hashed;
use imgsys_proto::{
    ServerMessage,
    message::{Accepted, JobAnswer, JobEnd, Rejected, SendBody, Watching},
};
use imgsys_types::{
    Digest, Failure, FailureReason, Job, JobRecord, JobResult, Owner, ServerId, Timestamp,
};

const DIGEST: Digest = Digest::from_bytes([7; 32]);

pub(super) fn rules() -> Rules {
    Rules {
        jobs: 4,
        wait: true,
        priority: Priority::default(),
        patience: Duration::from_secs(60),
        max_cuts: 10,
    }
}

pub(super) fn file(name: &str) -> Found {
    Found {
        path: name.into(),
        name: name.into(),
        size: 1000,
    }
}

pub(super) fn hashed(digest: Digest) -> Hashed {
    Hashed {
        sha256: digest,
        size: 1000,
        kept: None,
    }
}

pub(super) fn result() -> JobResult {
    JobResult::failed(
        0,
        Failure::new(FailureReason::UnsupportedFormat, "no image"),
    )
}

/// A connected session with what helps to talk to it.
struct Talk {
    session: Session,
    now: Instant,
}

impl Talk {
    fn new(rules: Rules) -> Self {
        let mut session = Session::new(rules);
        session.connected(Limits::default());
        Self {
            session,
            now: Instant::now(),
        }
    }

    fn next(&mut self) -> Option<Action> {
        self.session.poll(self.now)
    }

    fn hear(&mut self, message: ServerMessage) {
        self.session.receive(message, self.now);
    }

    /// The number and the job of the next `submit` without a body.
    fn asked(&mut self) -> (u64, JobId) {
        match self.next() {
            Some(Action::Send(ClientMessage::Submit(submit))) => (submit.req, submit.job),
            other => panic!("{other:?}"),
        }
    }

    fn watched(&mut self) -> (u64, Vec<JobId>) {
        match self.next() {
            Some(Action::Send(ClientMessage::Watch(watch))) => (watch.req, watch.jobs),
            other => panic!("{other:?}"),
        }
    }

    fn reported(&mut self) -> Report {
        match self.next() {
            Some(Action::Report(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    fn nothing(&mut self) {
        assert_eq!(self.next(), None);
    }

    /// Adds a file and hashes it.
    fn add(&mut self) -> JobId {
        let job = self.session.add(file("cat.jpg"), self.now);
        let path = "cat.jpg".into();
        assert_eq!(self.next(), Some(Action::Hash { job, path }));
        self.session.hashed(job, hashed(DIGEST));
        job
    }

    /// Adds a file that the server accepts at once.
    fn add_accepted(&mut self) -> JobId {
        let job = self.add();
        let (req, asked) = self.asked();
        assert_eq!(asked, job);
        self.accept(req, job, true);
        job
    }

    fn accept(&mut self, req: u64, job: JobId, duplicate: bool) {
        self.hear(ServerMessage::Accepted(Accepted {
            req,
            job,
            duplicate,
            submitted_at: Timestamp::now(),
        }));
    }

    fn reject(&mut self, req: u64, code: ErrorCode, retry_after_ms: Option<u64>) {
        self.hear(ServerMessage::Rejected(Rejected {
            req,
            job: None,
            code,
            text: "no".into(),
            retry_after_ms,
        }));
    }

    fn finish(&mut self, job: JobId, sha256: Digest) {
        let result = result();
        self.hear(ServerMessage::Result(JobEnd {
            job,
            sha256,
            result,
        }));
    }

    fn reconnect(&mut self) {
        self.session.lost(self.now);
        self.nothing();
        self.session.connected(Limits::default());
    }
}

fn failure(report: &Report) -> &'static str {
    match report.end {
        End::Failed { reason, .. } => reason,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn new_image_is_asked_for_then_sent_then_answered() {
    let mut talk = Talk::new(rules());
    let job = talk.add();
    let (req, _) = talk.asked();
    talk.nothing();
    talk.hear(ServerMessage::SendBody(SendBody { req, job }));
    let Some(Action::SendBody {
        submit: ClientMessage::Submit(submit),
        body,
        ..
    }) = talk.next()
    else {
        panic!("no body");
    };
    assert_eq!(
        (submit.job, submit.sha256, submit.size),
        (job, DIGEST, 1000)
    );
    assert_eq!(
        body,
        Body::File {
            path: "cat.jpg".into(),
            size: 1000
        }
    );
    talk.accept(submit.req, job, false);
    talk.nothing();
    talk.finish(job, DIGEST);
    let report = talk.reported();
    assert_eq!((report.job, report.duplicate), (Some(job), Some(false)));
    assert!(matches!(report.end, End::Answered(_)));
    assert!(talk.session.is_empty());
}

#[test]
fn known_image_is_not_sent() {
    let mut talk = Talk::new(rules());
    let job = talk.add_accepted();
    talk.nothing();
    talk.finish(job, DIGEST);
    assert_eq!(talk.reported().duplicate, Some(true));
}

#[test]
fn lost_connection_watches_accepted_jobs_and_submits_the_others_again() {
    let mut talk = Talk::new(rules());
    let accepted = talk.add_accepted();
    let asked = talk.add();
    assert_eq!(talk.asked().1, asked);
    talk.reconnect();
    assert_eq!(talk.watched().1, [accepted]);
    let (req, again) = talk.asked();
    assert_eq!(again, asked, "the job keeps its id");
    talk.nothing();
    talk.accept(req, asked, false);
    talk.finish(accepted, DIGEST);
    talk.finish(asked, DIGEST);
    talk.reported();
    talk.reported();
    assert!(talk.session.is_empty());
}

#[test]
fn server_that_lost_its_disk_is_sent_the_image_again() {
    let mut talk = Talk::new(rules());
    let job = talk.add_accepted();
    talk.reconnect();
    let (req, jobs) = talk.watched();
    talk.hear(ServerMessage::Watching(Watching { req, unknown: jobs }));
    let (req, again) = talk.asked();
    assert_eq!(again, job);
    talk.hear(ServerMessage::SendBody(SendBody { req, job }));
    assert!(matches!(talk.next(), Some(Action::SendBody { .. })));
}

#[test]
fn refusal_for_now_is_tried_again_until_patience_ends() {
    let mut talk = Talk::new(rules());
    talk.add();
    let (req, _) = talk.asked();
    talk.reject(req, ErrorCode::DiskFull, Some(5000));
    talk.nothing();
    assert_eq!(
        talk.session.deadline(),
        Some(talk.now + Duration::from_secs(5))
    );
    for _ in 0..12 {
        talk.now += Duration::from_secs(5);
        let (req, _) = talk.asked();
        talk.reject(req, ErrorCode::DiskFull, Some(5000));
    }
    assert_eq!(failure(&talk.reported()), "disk_full");
    assert!(talk.session.is_empty());
}

#[test]
fn refusal_for_good_fails_the_file_alone() {
    let mut talk = Talk::new(rules());
    let refused = talk.add();
    let (req, _) = talk.asked();
    let other = talk.add_accepted();
    talk.reject(req, ErrorCode::Conflict, None);
    let report = talk.reported();
    assert_eq!((report.job, failure(&report)), (Some(refused), "conflict"));
    talk.finish(other, DIGEST);
    assert_eq!(talk.reported().job, Some(other));
}

#[test]
fn file_that_changed_is_told_as_changed() {
    let mut talk = Talk::new(rules());
    talk.add();
    let (req, job) = talk.asked();
    talk.hear(ServerMessage::SendBody(SendBody { req, job }));
    let Some(Action::SendBody {
        submit: ClientMessage::Submit(submit),
        ..
    }) = talk.next()
    else {
        panic!("no body");
    };
    talk.reject(submit.req, ErrorCode::DigestMismatch, None);
    assert_eq!(failure(&talk.reported()), reason::CHANGED);
}

#[test]
fn result_may_come_first_but_not_for_another_image() {
    let mut talk = Talk::new(rules());
    let job = talk.add();
    let (req, _) = talk.asked();
    talk.finish(job, Digest::from_bytes([8; 32]));
    talk.nothing();
    talk.finish(job, DIGEST);
    assert!(matches!(talk.reported().end, End::Answered(_)));
    talk.accept(req, job, false);
    talk.finish(job, DIGEST);
    talk.nothing();
    assert!(talk.session.is_empty());
}

#[test]
fn servers_limits_are_kept() {
    let mut talk = Talk::new(rules());
    talk.session.connected(Limits {
        max_image: 999,
        ..Limits::default()
    });
    talk.session.add(file("big.jpg"), talk.now);
    let report = talk.reported();
    assert_eq!((failure(&report), report.job), ("image_too_large", None));

    talk.session.connected(Limits {
        max_in_flight: 2,
        max_watched: 3,
        ..Limits::default()
    });
    let asked = [(talk.add(), talk.asked()), (talk.add(), talk.asked())];
    assert!(!talk.session.wants_more(), "two are on the way");
    for (job, (req, _)) in asked {
        talk.accept(req, job, true);
    }
    assert!(talk.session.wants_more());
    talk.add_accepted();
    assert!(!talk.session.wants_more(), "three are watched");
}

#[test]
fn many_jobs_are_watched_in_frames_that_fit() {
    let mut talk = Talk::new(rules());
    for _ in 0..4500 {
        talk.session.add_job(JobId::generate(), talk.now);
    }
    let mut left = 4500;
    while left > 0 {
        let (req, jobs) = talk.watched();
        let mut frame = Vec::new();
        left -= jobs.len();
        let watch = ClientMessage::Watch(imgsys_proto::message::Watch { req, jobs });
        imgsys_proto::encode(&watch, 0, &mut frame).unwrap();
    }
    talk.nothing();
}

#[test]
fn job_that_is_only_waited_for_gets_its_name() {
    let mut talk = Talk::new(rules());
    let (known, unknown) = (JobId::generate(), JobId::generate());
    talk.session.add_job(known, talk.now);
    talk.session.add_job(unknown, talk.now);
    let (req, _) = talk.watched();
    talk.hear(ServerMessage::Watching(Watching {
        req,
        unknown: vec![unknown],
    }));
    assert_eq!(failure(&talk.reported()), "unknown_job");
    talk.finish(known, DIGEST);
    let Some(Action::Send(ClientMessage::Show(show))) = talk.next() else {
        panic!("not asked for");
    };
    let record = JobRecord {
        job: Job {
            id: known,
            owner: Owner::local(),
            sha256: DIGEST,
            name: "cat.jpg".into(),
            size: 5,
            priority: Priority::default(),
            submitted_at: Timestamp::now(),
            server: ServerId::generate(),
        },
        result: Some(result()),
    };
    talk.hear(ServerMessage::Job(JobAnswer {
        req: show.req,
        record,
    }));
    let report = talk.reported();
    assert_eq!(
        (report.name.as_deref(), report.size),
        (Some("cat.jpg"), Some(5))
    );
    assert!(talk.session.is_empty());
}

#[test]
fn without_waiting_accepted_is_the_end() {
    let mut talk = Talk::new(Rules {
        wait: false,
        ..rules()
    });
    talk.add_accepted();
    assert_eq!(talk.reported().end, End::Accepted);
    assert!(talk.session.is_empty());
}

#[test]
fn image_that_breaks_every_connection_is_given_up() {
    let mut talk = Talk::new(rules());
    talk.add();
    for _ in 0..10 {
        let (req, job) = talk.asked();
        talk.hear(ServerMessage::SendBody(SendBody { req, job }));
        talk.next();
        talk.session.lost(talk.now);
        talk.session.connected(Limits::default());
    }
    assert_eq!(failure(&talk.reported()), reason::UNREACHABLE);
}

#[test]
fn image_whose_accepted_was_lost_is_no_duplicate_of_itself() {
    let mut talk = Talk::new(rules());
    let job = talk.add();
    let (req, _) = talk.asked();
    talk.hear(ServerMessage::SendBody(SendBody { req, job }));
    assert!(matches!(talk.next(), Some(Action::SendBody { .. })));
    talk.reconnect();
    let (req, _) = talk.asked();
    talk.accept(req, job, true);
    talk.finish(job, DIGEST);
    assert_eq!(talk.reported().duplicate, Some(false));
}

#[test]
fn giving_up_tells_of_every_job() {
    let mut talk = Talk::new(rules());
    let accepted = talk.add_accepted();
    talk.add();
    talk.session
        .give_up(reason::INTERRUPTED, "interrupted", talk.now);
    let mut reports = [talk.reported(), talk.reported()];
    reports.sort_by_key(|report| report.job);
    assert_eq!(
        (reports[0].job, failure(&reports[0])),
        (None, reason::INTERRUPTED)
    );
    assert_eq!(reports[1].job, Some(accepted));
    assert!(matches!(reports[1].end, End::Pending(_)));
    assert!(talk.session.is_empty());
}

#[test]
fn not_allowed_ends_the_session() {
    let mut talk = Talk::new(rules());
    talk.add();
    let (req, _) = talk.asked();
    talk.reject(req, ErrorCode::NotAllowed, None);
    assert_eq!(
        talk.session.refusal().map(|(code, _)| *code),
        Some(ErrorCode::NotAllowed)
    );
}
