//! Frames from a stream.

use crate::frame::{self, FrameError, PREFIX_LEN, Prefix};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// How much is read from the stream at once when nothing larger is expected.
const CHUNK: usize = 4 << 10;
/// How much is read at once where a frame may begin: a small one is mostly there as a whole.
const FIRST: usize = 16 << 10;
/// The most of a body that is handed out at once.
pub const MAX_BODY_CHUNK: usize = 256 << 10;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream broke.
    #[error("reading from the connection")]
    Io(#[from] io::Error),
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames from a stream: the head with [`FrameReader::next`], then the body, if there is one,
/// with [`FrameReader::body_chunk`], [`FrameReader::body_into`] or [`FrameReader::body`].
///
/// [`FrameReader::next`] and [`FrameReader::body_chunk`] may be cancelled: what was read stays.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    /// Bytes of the present frame's body that were not handed out yet.
    body: u32,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from this stream.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            body: 0,
        }
    }

    /// Bytes of the present frame's body that were not handed out yet.
    pub fn body_left(&self) -> u32 {
        self.body
    }

    /// Whether the stream stands within a frame: some of it has come, and some has not.
    pub fn is_within_frame(&self) -> bool {
        self.body > 0 || !self.buffer.is_empty()
    }

    /// Reads something, whatever it is, and throws it away: the number of bytes, 0 at the end of the
    /// stream. For connections that are ending; no frame can be read after it.
    pub async fn discard(&mut self, most: u32) -> Result<u32, ReadError> {
        self.buffer.clear();
        self.body = 0;
        self.buffer.reserve(CHUNK.min(most as usize));
        let read = self.stream.read_buf(&mut self.buffer).await?;
        Ok(u32::try_from(read).unwrap_or(u32::MAX))
    }

    /// The next frame's message and the length of its body; `None` if the stream ended between
    /// frames. What is left of the body before is discarded.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Result<Option<(M, u32)>, ReadError> {
        while self.body > 0 {
            if self.body_chunk().await?.is_none() {
                break;
            }
        }
        if !self.fill(PREFIX_LEN).await? {
            return if self.buffer.is_empty() {
                Ok(None)
            } else {
                Err(ReadError::Cut)
            };
        }
        let mut lengths = [0; PREFIX_LEN];
        lengths.copy_from_slice(&self.buffer[..PREFIX_LEN]);
        let prefix = Prefix::parse(lengths)?;
        if !self.fill(PREFIX_LEN + prefix.head).await? {
            return Err(ReadError::Cut);
        }
        let head = self.buffer.split_to(PREFIX_LEN + prefix.head);
        self.body = prefix.body;
        let message = frame::decode(&head[PREFIX_LEN..])?;
        Ok(Some((message, prefix.body)))
    }

    /// The next piece of the body, at most [`MAX_BODY_CHUNK`] bytes; `None` once it is all there.
    pub async fn body_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.body == 0 {
            return Ok(None);
        }
        let want = (self.body as usize).min(MAX_BODY_CHUNK);
        if !self.fill(want).await? {
            return Err(ReadError::Cut);
        }
        let chunk = self.buffer.split_to(want).freeze();
        self.body -= u32::try_from(want).unwrap_or(self.body);
        Ok(Some(chunk))
    }

    /// Puts the next bytes of the body into this room, as many as are there by now and fit; 0 once it
    /// is all there. Large bodies are copied once this way. May be cancelled like the others.
    pub async fn body_into(&mut self, room: &mut [u8]) -> Result<usize, ReadError> {
        let want = (self.body as usize).min(room.len());
        if want == 0 {
            return Ok(0);
        }
        let room = &mut room[..want];
        let read = if self.buffer.is_empty() {
            self.stream.read(room).await?
        } else {
            let ready = want.min(self.buffer.len());
            room[..ready].copy_from_slice(&self.buffer.split_to(ready));
            ready
        };
        if read == 0 {
            return Err(ReadError::Cut);
        }
        self.body -= u32::try_from(read).unwrap_or(self.body);
        Ok(read)
    }

    /// The whole rest of the body. Only for bodies whose length the caller has found small.
    pub async fn body(&mut self) -> Result<Bytes, ReadError> {
        let want = self.body as usize;
        if !self.fill(want).await? {
            return Err(ReadError::Cut);
        }
        self.body = 0;
        Ok(self.buffer.split_to(want).freeze())
    }

    /// Reads until `len` bytes are in the buffer; false if the stream ends before.
    async fn fill(&mut self, len: usize) -> Result<bool, ReadError> {
        while self.buffer.len() < len {
            if self.buffer.is_empty() && len < CHUNK {
                if self.first().await? == 0 {
                    return Ok(false);
                }
                continue;
            }
            let missing = len - self.buffer.len();
            // No more than one chunk ahead of what has come: an announced length costs nothing.
            self.buffer.reserve(missing.clamp(CHUNK, MAX_BODY_CHUNK));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads by way of the stack what comes first after a pause, 0 at the end of the stream: a
    /// connection on which nothing comes holds no buffer for it.
    async fn first(&mut self) -> io::Result<usize> {
        self.buffer = BytesMut::new();
        poll_fn(|context| {
            let mut space = [const { MaybeUninit::uninit() }; FIRST];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
        .await
    }
}
