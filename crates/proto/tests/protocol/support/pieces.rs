//! A stream that comes in pieces, and a reader that is interrupted after each.

use std::{
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, ReadBuf};

/// A stream that comes in pieces, with a pause before each, and then ends.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    queue: VecDeque<Vec<u8>>,
    paused: bool,
    /// Whether the stream stays open behind the last piece.
    open: bool,
    /// The most room that a reader has offered at once: what it has allocated, at least.
    pub(crate) most_room: usize,
}

impl Pieces {
    /// The whole stream in one piece.
    pub(crate) fn whole(bytes: &[u8]) -> Self {
        Self::cut(bytes, &[])
    }

    /// The stream in pieces of these lengths, over and over; of any length if there are none.
    pub(crate) fn cut(mut bytes: &[u8], lengths: &[usize]) -> Self {
        let mut pieces = VecDeque::new();
        let mut lengths = lengths.iter().cycle();
        while !bytes.is_empty() {
            let len = lengths.next().map_or(bytes.len(), |&len| len.max(1));
            let (piece, rest) = bytes.split_at(len.min(bytes.len()));
            pieces.push_back(piece.to_vec());
            bytes = rest;
        }
        Self {
            queue: pieces,
            ..Self::default()
        }
    }
}

impl Pieces {
    /// The same pieces, and then silence instead of an end.
    pub(crate) fn then_silence(mut self) -> Self {
        self.open = true;
        self
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.most_room = self.most_room.max(buf.remaining());
        self.paused = !self.paused;
        if self.paused || (self.open && self.queue.is_empty()) {
            return Poll::Pending;
        }
        if let Some(mut piece) = self.queue.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.queue.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Runs `start`, and drops and starts it anew whenever it has to wait: what a `select!` does to a
/// reader, all the time.
#[macro_export]
macro_rules! interrupted {
    ($start:expr) => {
        loop {
            if let Some(value) = $crate::support::pieces::poll_once($start) {
                break value;
            }
        }
    };
}

/// The future's value, if it has one at once.
pub(crate) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
