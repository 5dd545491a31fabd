//! The server: what it has, what it has seen, what it is to do wrong.

use super::connection::Connection;
use imgsys_types::{
    Digest, ErrorCode, Job, JobId, JobRecord, JobResult, Limits, Owner, ServerId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime::Runtime};

/// What the server does once instead of the usual, at the next occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Greets with a goodbye.
    Turn(ErrorCode),
    /// Greets with a version that does not exist.
    WrongVersion,
    /// Answers `submit` with a refusal, and when to try again.
    Refuse(ErrorCode, Option<u64>),
    /// Hangs up in the midst of a body.
    CutInBody,
    /// Hangs up instead of answering a `submit` with a body, having kept the image.
    CutBeforeAccepted,
    /// Hangs up instead of telling a result.
    CutBeforeResult,
    /// The same, and is gone from then on.
    Die,
    /// The same as the first, and forgets every job and image.
    Forget,
    /// Says goodbye instead of answering a `submit`.
    Leave(ErrorCode),
    /// Hangs up in the midst of an image it was asked for.
    CutInImage,
}

/// What the server has seen and has.
#[derive(Debug, Default)]
pub struct State {
    pub tricks: VecDeque<Trick>,
    pub connections: usize,
    /// Every body that came whole.
    pub bodies: Vec<Digest>,
    /// Every submit, with or without a body.
    pub submits: Vec<(JobId, bool)>,
    pub watches: usize,
    pub images: HashMap<Digest, Vec<u8>>,
    /// In the order of acceptance.
    pub jobs: Vec<JobRecord>,
    pub cancelled: HashSet<JobId>,
    pub limits: Limits,
    /// Whether results are kept back.
    pub silent: bool,
    pub partial: bool,
    /// Whether new connections are refused.
    pub down: bool,
}

/// A server on a free port, for as long as this lives.
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

impl Server {
    /// A server that does these tricks, in order.
    pub fn start(tricks: impl IntoIterator<Item = Trick>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State {
            tricks: tricks.into_iter().collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                if !shared.lock().unwrap().down {
                    tokio::spawn(Connection::new(stream, Arc::clone(&shared)).run());
                }
            }
        });
        Self {
            address,
            state,
            _runtime: runtime,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until something holds.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(&self.state()) {
            assert!(Instant::now() < deadline, "waited for {what} in vain");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Puts a finished job into the history.
    pub fn add_job(&self, name: &str, image: &[u8], result: Option<JobResult>) -> JobId {
        let job = JobId::generate();
        let sha256 = Digest::from_bytes(Sha256::digest(image).into());
        let mut state = self.state();
        state.images.insert(sha256, image.to_vec());
        let submitted_at = Timestamp::from_micros(
            1_793_534_400_000_000 + i64::try_from(state.jobs.len()).unwrap(),
        );
        let mut record = record(job, name, image.len() as u64, sha256);
        record.job.submitted_at = submitted_at;
        record.result = result;
        state.jobs.push(record);
        job
    }
}

pub fn record(id: JobId, name: &str, size: u64, sha256: Digest) -> JobRecord {
    JobRecord {
        job: Job {
            id,
            owner: Owner::local(),
            sha256,
            name: name.to_owned(),
            size,
            priority: imgsys_types::Priority::default(),
            submitted_at: Timestamp::now(),
            server: ServerId::from_bytes([5; 16]),
        },
        result: None,
    }
}

impl State {
    /// Does the next trick if it is one of these.
    pub fn trick(&mut self, fits: impl Fn(Trick) -> bool) -> Option<Trick> {
        self.tricks
            .front()
            .copied()
            .filter(|trick| fits(*trick))
            .inspect(|_| {
                self.tricks.pop_front();
            })
    }

    pub fn find(&mut self, job: JobId) -> Option<&mut JobRecord> {
        self.jobs.iter_mut().find(|record| record.job.id == job)
    }
}
