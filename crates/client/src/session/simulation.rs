//! A session against a model of a server, with every kind of misfortune in any order. Whatever
//! happens, each file has exactly one story, which ends with what the server found.
//!
//! A seed decides what happens, and repeats it; what fails is made as short as it can be before it
//! is told. `IMGSYS_SEEDS=10000` tries more of them.

mod model;

use super::{
    Action, Session,
    tests::{file, hashed, rules},
};
use crate::report::{End, Report};
use imgsys_proto::ClientMessage;
use imgsys_types::{Digest, ErrorCode, JobId, Limits};
use model::Model;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::{Duration, Instant},
};

/// How many seeds are tried, unless it is said otherwise.
const SEEDS: u64 = 2_000;

/// What happens next. A number picks one of several, such as the message that is read next: they
/// may overtake each other.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The server does what one message asks for.
    Serve(usize),
    /// The same, but it refuses it, for so many seconds.
    Refuse(usize, u64),
    /// The client hears one message.
    Hear(usize),
    /// A job ends.
    Finish(usize),
    /// A job's end is told again.
    TellAgain(usize),
    /// The connection breaks: what is under way either way is lost.
    Break,
    /// The same for the client, but the server has received what was said, and does it later.
    Strand,
    /// The server does what was said on a connection that is gone.
    ServeStray(usize),
    /// The server starts anew, with what is on its disk.
    Restart,
    /// The server starts anew, without what it had.
    Wipe,
    /// The client connects, if there is no connection.
    Connect,
    /// So many seconds pass.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = || 0..16_usize;
    let step = prop_oneof![
        8 => pick().prop_map(Step::Serve),
        1 => (pick(), 0..40_u64).prop_map(|(pick, pause)| Step::Refuse(pick, pause)),
        8 => pick().prop_map(Step::Hear),
        4 => pick().prop_map(Step::Finish),
        1 => pick().prop_map(Step::TellAgain),
        1 => Just(Step::Break),
        1 => Just(Step::Strand),
        2 => pick().prop_map(Step::ServeStray),
        1 => Just(Step::Restart),
        1 => Just(Step::Wipe),
        6 => Just(Step::Connect),
        2 => (0..40_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..300)
}

/// Client, server, and the messages to it.
struct World {
    session: Session,
    now: Instant,
    connected: bool,
    server: Model,
    /// Each with whether its body comes with it.
    to_server: Vec<(ClientMessage, bool)>,
    /// The same, of connections that are gone.
    strays: Vec<(ClientMessage, bool)>,
    /// Jobs that another client has sent.
    adopted: BTreeSet<JobId>,
    wiped: bool,
    told: BTreeMap<JobId, u32>,
}

impl World {
    fn new(files: u8, adopted: u8) -> (Self, Vec<JobId>) {
        let mut session = Session::new(super::Rules {
            patience: Duration::MAX,
            max_cuts: u32::MAX,
            ..rules()
        });
        let now = Instant::now();
        let mut server = Model::default();
        let adopted: BTreeSet<_> = (0..adopted)
            .map(|number| {
                let job = JobId::generate();
                server.keep(job, Digest::from_bytes([number; 32]));
                session.add_job(job, now);
                job
            })
            .collect();
        let added = (0..files).map(|n| session.add(file(&n.to_string()), now));
        let jobs = added.chain(adopted.iter().copied()).collect();
        let world = Self {
            session,
            now,
            connected: false,
            server,
            to_server: Vec::new(),
            strays: Vec::new(),
            adopted,
            wiped: false,
            told: BTreeMap::new(),
        };
        (world, jobs)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Serve(pick) => {
                if let Some((message, with_body)) = take(&mut self.to_server, pick) {
                    self.server.serve(&message, with_body, false);
                }
            }
            Step::Refuse(pick, seconds) => {
                if let Some((message, _)) = take(&mut self.to_server, pick) {
                    self.server.refuse(&message, Duration::from_secs(seconds));
                }
            }
            Step::Hear(pick) => {
                if let Some(message) = self.server.answer(pick) {
                    self.session.receive(message, self.now);
                }
            }
            Step::Finish(pick) => self.server.finish(pick),
            Step::TellAgain(pick) => self.server.tell_again(pick),
            Step::Break => self.lose_connection(),
            Step::Strand => {
                self.strays.append(&mut self.to_server);
                self.lose_connection();
            }
            Step::ServeStray(pick) => {
                if let Some((message, with_body)) = take(&mut self.strays, pick) {
                    self.server.serve(&message, with_body, true);
                }
            }
            Step::Restart => {
                self.strays.clear();
                self.lose_connection();
            }
            Step::Wipe => {
                self.wiped = true;
                self.strays.clear();
                self.server.wipe();
                self.lose_connection();
            }
            Step::Connect => {
                if !self.connected {
                    self.connected = true;
                    self.session.connected(limits());
                }
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
        self.act();
    }

    fn lose_connection(&mut self) {
        self.connected = false;
        self.to_server.clear();
        self.server.cut();
        self.session.lost(self.now);
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
                Action::Send(message) => self.to_server.push((message, false)),
                Action::SendBody { submit, .. } => self.to_server.push((submit, true)),
                Action::Report(report) => self.report(&report),
            }
        }
        let submits = self.to_server.iter();
        let submits = submits.filter(|(message, _)| matches!(message, ClientMessage::Submit(_)));
        let in_flight = limits().max_in_flight as usize;
        assert!(submits.count() <= in_flight, "more in flight than allowed");
        assert!(
            self.connected || self.to_server.is_empty(),
            "something was said without a connection"
        );
    }

    fn report(&mut self, report: &Report) {
        let job = report.job.unwrap();
        *self.told.entry(job).or_default() += 1;
        let given = self.server.given(job);
        match &report.end {
            End::Answered(result) => {
                assert!(given.contains(result), "{report:?} is not true");
                assert!(self.wiped || given.len() == 1, "{job} had {given:?}");
            }
            // There is no file that could be sent again.
            End::Failed { reason, .. } if *reason == ErrorCode::UnknownJob.as_str() => {
                assert!(self.wiped && self.adopted.contains(&job), "{report:?}");
            }
            other => panic!("{job}: {other:?}"),
        }
    }
}

/// Takes one of them.
fn take<T>(all: &mut Vec<T>, pick: usize) -> Option<T> {
    let index = pick % all.len().max(1);
    (index < all.len()).then(|| all.remove(index))
}

fn limits() -> Limits {
    Limits {
        max_in_flight: 3,
        max_watched: 5,
        ..Limits::default()
    }
}

/// Goes through all of that, and then all goes well for long enough.
fn live(files: u8, adopted: u8, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut world, jobs) = World::new(files, adopted);
    for step in steps {
        world.step(step);
    }
    for _ in 0..200 {
        for step in [
            Step::Connect,
            Step::ServeStray(0),
            Step::Serve(0),
            Step::Hear(0),
            Step::Finish(0),
            Step::Hear(0),
            Step::Pass(20),
        ] {
            world.step(step);
        }
    }
    prop_assert!(world.session.is_empty(), "{:?}", world.session);
    for job in jobs {
        prop_assert_eq!(world.told.get(&job), Some(&1));
    }
    Ok(())
}

#[test]
fn every_file_is_told_once_and_truly_whatever_happens() {
    let count = env::var("IMGSYS_SEEDS").map_or(SEEDS, |count| count.parse().unwrap());
    for seed in 0..count {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let story = (1..12_u8, 0..4_u8, steps());
        let outcome = TestRunner::new_with_rng(config, chance)
            .run(&story, |(files, adopted, steps)| {
                live(files, adopted, steps)
            });
        if let Err(problem) = outcome {
            panic!("seed {seed}: {problem}");
        }
    }
}
