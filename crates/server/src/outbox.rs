//! What a connection still has to be told.
//!
//! Whoever has news for a client drops it here and goes on; one task a connection writes it out. A
//! client that reads slowly can't make the server grow: beyond [`HIGH_WATER`] a result is kept as
//! its job's id alone and read again from the spool or the database when its turn comes, and the
//! connection's own requests wait until there is room.

use imgsys_proto::{
    ServerMessage, encode,
    message::{Goodbye, JobEnd},
};
use imgsys_types::{ErrorCode, JobId};
use std::{
    collections::{HashSet, VecDeque},
    mem,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tracing::error;

/// Bytes that may wait on a connection before its requests are held back.
pub(crate) const HIGH_WATER: usize = 256 << 10;

/// A client that waits for so many ends gets them in groups.
const MANY: usize = 8;
/// How long a group gathers.
const GATHER: Duration = Duration::from_millis(1);

/// A piece of what has to be written.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Frames, ready to be sent.
    Frames(Vec<u8>),
    /// The end of this job, to be looked up.
    End(JobId),
    /// A frame whose body is a file.
    File {
        head: Vec<u8>,
        path: PathBuf,
        len: u64,
    },
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    bytes: usize,
    closed: bool,
    /// Jobs whose end the client is still to be told.
    owed: HashSet<JobId>,
}

/// What a connection still has to be told.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    news: Notify,
    room: Notify,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    pub(crate) fn send(&self, message: &ServerMessage) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if let Some(Piece::Frames(frames)) = state.pieces.back_mut() {
            let before = frames.len();
            if let Err(problem) = encode(message, 0, frames) {
                error!("a message to a client can't be written: {problem}");
            }
            let added = frames.len() - before;
            state.bytes += added;
        } else {
            let mut frames = Vec::with_capacity(256);
            if let Err(problem) = encode(message, 0, &mut frames) {
                error!("a message to a client can't be written: {problem}");
            }
            state.bytes += frames.len();
            state.pieces.push_back(Piece::Frames(frames));
        }
        drop(state);
        self.news.notify_one();
    }

    /// The client is owed the end of this job.
    pub(crate) fn owe(&self, job: JobId) {
        self.state().owed.insert(job);
    }

    /// How many ends of jobs the client is owed.
    pub(crate) fn owed(&self) -> usize {
        self.state().owed.len()
    }

    /// The jobs whose end the client is owed, which it is not owed any more from here on.
    pub(crate) fn take_owed(&self) -> HashSet<JobId> {
        mem::take(&mut self.state().owed)
    }

    /// Adds the end of a job, whole if there is room, else as a note to look it up.
    pub(crate) fn end(&self, end: &JobEnd) {
        if self.is_full() {
            self.look_up(end.job);
        } else {
            self.end_now(end);
        }
    }

    /// Adds the end of a job, whether there is room or not.
    pub(crate) fn end_now(&self, end: &JobEnd) {
        self.state().owed.remove(&end.job);
        self.send(&ServerMessage::Result(end.clone()));
    }

    /// Adds a note to look up how a job ended. The client is owed it until it is looked up.
    pub(crate) fn look_up(&self, job: JobId) {
        self.owe(job);
        self.push(Piece::End(job), size_of::<Piece>());
    }

    /// Adds a message whose body is a file.
    pub(crate) fn send_file(&self, message: &ServerMessage, path: PathBuf, len: u64) {
        let mut head = Vec::new();
        match encode(message, len, &mut head) {
            Ok(()) => {
                let bytes = head.len();
                self.push(Piece::File { head, path, len }, bytes);
            }
            Err(problem) => error!("a message to a client can't be written: {problem}"),
        }
    }

    fn push(&self, piece: Piece, bytes: usize) {
        let mut state = self.state();
        if !state.closed {
            state.bytes += bytes;
            state.pieces.push_back(piece);
            drop(state);
            self.news.notify_one();
        }
    }

    /// Says goodbye: nothing is added after it.
    pub(crate) fn goodbye(&self, code: ErrorCode, text: impl Into<String>) {
        let text = text.into();
        self.send(&ServerMessage::Goodbye(Goodbye { code, text }));
        self.close();
    }

    /// Nothing is added any more; what is there is still written.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.news.notify_one();
        self.room.notify_one();
    }

    fn is_full(&self) -> bool {
        self.state().bytes >= HIGH_WATER
    }

    /// Whether all has been taken to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().pieces.is_empty()
    }

    /// Waits until less than [`HIGH_WATER`] is to be written.
    pub(crate) async fn room(&self) {
        loop {
            {
                let state = self.state();
                if state.closed || state.bytes < HIGH_WATER {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// The next piece; `None` once the outbox is closed and empty.
    pub(crate) async fn next(&self) -> Option<Piece> {
        loop {
            {
                let mut state = self.state();
                if let Some(piece) = state.pieces.pop_front() {
                    let bytes = match &piece {
                        Piece::Frames(frames) => frames.len(),
                        Piece::End(_) => size_of::<Piece>(),
                        Piece::File { head, .. } => head.len(),
                    };
                    state.bytes -= bytes;
                    let room = state.bytes < HIGH_WATER;
                    drop(state);
                    if room {
                        self.room.notify_one();
                    }
                    return Some(piece);
                }
                if state.closed {
                    return None;
                }
            }
            self.news.notified().await;
            // Then one write serves all that gathers meanwhile, and one reading of the client's.
            if self.owed() >= MANY {
                tokio::time::sleep(GATHER).await;
            } else {
                // Those that are about to add something more go first.
                tokio::task::yield_now().await;
            }
        }
    }
}
