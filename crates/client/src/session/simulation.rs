//! A session against a model of a server, with every kind of misfortune in any order: connections
//! that break between any two messages, refusals, a disk that is lost. Whatever happens, each file
//! has exactly one story, and it ends with the answer.

use super::{
    Action, Session,
    tests::{file, hashed, result, rules},
};
use crate::report::End;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Accepted, JobEnd, Rejected, SendBody, Submit, Watching},
};
use imgsys_types::{Digest, ErrorCode, JobId, Limits, Timestamp};
use proptest::prelude::*;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The server reads one message.
    Serve,
    /// The same, but it refuses it for now.
    Refuse,
    /// The client reads one message.
    Hear,
    /// A job ends.
    Finish,
    /// The connection breaks: what is under way either way is lost.
    Break,
    /// The same, and the server comes back without what it had.
    Wipe,
    /// Time passes.
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Serve),
        1 => Just(Step::Refuse),
        6 => Just(Step::Hear),
        3 => Just(Step::Finish),
        1 => Just(Step::Break),
        1 => Just(Step::Wipe),
        1 => Just(Step::Pass),
    ];
    proptest::collection::vec(step, 0..300)
}

/// Client, server, and the messages between them.
struct World {
    session: Session,
    now: Instant,
    to_server: VecDeque<(ClientMessage, bool)>,
    to_client: VecDeque<ServerMessage>,
    /// Jobs the server has, with their digest; whether this connection watches them.
    jobs: HashMap<JobId, (Digest, bool)>,
    finished: Vec<JobId>,
    told: HashMap<JobId, u32>,
}

impl World {
    fn new(files: u8) -> (Self, Vec<JobId>) {
        let mut session = Session::new(super::Rules {
            patience: Duration::MAX,
            max_cuts: u32::MAX,
            ..rules()
        });
        let now = Instant::now();
        session.connected(limits());
        let jobs = (0..files)
            .map(|n| session.add(file(&n.to_string()), now))
            .collect();
        let world = Self {
            session,
            now,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            jobs: HashMap::new(),
            finished: Vec::new(),
            told: HashMap::new(),
        };
        (world, jobs)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Serve => self.serve(),
            Step::Refuse => self.refuse(),
            Step::Hear => {
                if let Some(message) = self.to_client.pop_front() {
                    self.session.receive(message, self.now);
                }
            }
            Step::Finish => self.finish(),
            Step::Break => self.lose_connection(),
            Step::Wipe => {
                self.jobs.clear();
                self.finished.clear();
                self.lose_connection();
            }
            Step::Pass => self.now += Duration::from_secs(20),
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.session.poll(self.now) {
            match action {
                // Files with an even name are all the same image.
                Action::Hash { job, path } => {
                    let number: u8 = path.to_str().unwrap().parse().unwrap();
                    let digest = if number.is_multiple_of(2) { 0 } else { number };
                    self.session
                        .hashed(job, hashed(Digest::from_bytes([digest; 32])));
                }
                Action::Send(message) => self.to_server.push_back((message, false)),
                Action::SendBody { submit, .. } => self.to_server.push_back((submit, true)),
                Action::Report(report) => {
                    assert!(matches!(report.end, End::Answered(_)), "{report:?}");
                    *self.told.entry(report.job.unwrap()).or_default() += 1;
                }
            }
        }
        let in_flight = limits().max_in_flight as usize;
        let submits = self.to_server.iter();
        let submits = submits.filter(|(message, _)| matches!(message, ClientMessage::Submit(_)));
        assert!(submits.count() <= in_flight, "more in flight than allowed");
    }

    fn serve(&mut self) {
        match self.to_server.pop_front() {
            Some((ClientMessage::Submit(submit), with_body)) => self.submit(&submit, with_body),
            Some((ClientMessage::Watch(watch), _)) => {
                let mut unknown = Vec::new();
                let mut ends = Vec::new();
                for job in watch.jobs {
                    match self.jobs.get_mut(&job) {
                        Some((_, watched)) => *watched = true,
                        None => unknown.push(job),
                    }
                    ends.extend(self.finished.contains(&job).then_some(job));
                }
                let req = watch.req;
                self.to_client
                    .push_back(ServerMessage::Watching(Watching { req, unknown }));
                for job in ends {
                    self.tell(job);
                }
            }
            Some((other, _)) => panic!("{other:?}"),
            None => {}
        }
    }

    fn submit(&mut self, submit: &Submit, with_body: bool) {
        let Submit {
            req, job, sha256, ..
        } = *submit;
        let known = self.jobs.values().any(|(digest, _)| *digest == sha256);
        if !with_body && !known {
            return self
                .to_client
                .push_back(ServerMessage::SendBody(SendBody { req, job }));
        }
        self.jobs.insert(job, (sha256, true));
        self.to_client.push_back(ServerMessage::Accepted(Accepted {
            req,
            job,
            duplicate: known,
            submitted_at: Timestamp::now(),
        }));
        if self.finished.contains(&job) {
            self.tell(job);
        }
    }

    fn refuse(&mut self) {
        let (req, job) = match self.to_server.pop_front() {
            Some((ClientMessage::Submit(submit), _)) => (submit.req, Some(submit.job)),
            Some((ClientMessage::Watch(watch), _)) => (watch.req, None),
            Some((other, _)) => panic!("{other:?}"),
            None => return,
        };
        self.to_client.push_back(ServerMessage::Rejected(Rejected {
            req,
            job,
            code: ErrorCode::Unavailable,
            text: "not now".into(),
            retry_after_ms: None,
        }));
    }

    fn finish(&mut self) {
        let open = self
            .jobs
            .iter()
            .find(|(job, _)| !self.finished.contains(job));
        if let Some((&job, &(_, watched))) = open {
            self.finished.push(job);
            if watched {
                self.tell(job);
            }
        }
    }

    fn tell(&mut self, job: JobId) {
        let (sha256, _) = self.jobs[&job];
        let result = result();
        self.to_client.push_back(ServerMessage::Result(JobEnd {
            job,
            sha256,
            result,
        }));
    }

    fn lose_connection(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.jobs
            .values_mut()
            .for_each(|(_, watched)| *watched = false);
        self.session.lost(self.now);
        self.act();
        assert!(
            self.to_server.is_empty(),
            "something was said without a connection"
        );
        self.session.connected(limits());
    }
}

fn limits() -> Limits {
    Limits {
        max_in_flight: 3,
        max_watched: 5,
        ..Limits::default()
    }
}

proptest! {
    #[test]
    fn every_file_is_told_once_whatever_happens(files in 1..12_u8, steps in steps()) {
        let (mut world, jobs) = World::new(files);
        for step in steps {
            world.step(step);
        }
        // Then all goes well for long enough.
        for _ in 0..200 {
            for step in [Step::Serve, Step::Hear, Step::Finish, Step::Hear, Step::Pass] {
                world.step(step);
            }
        }
        prop_assert!(world.session.is_empty(), "{:?}", world.session);
        for job in jobs {
            prop_assert_eq!(world.told.get(&job), Some(&1));
        }
    }
}
