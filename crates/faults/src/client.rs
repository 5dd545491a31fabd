//! A connection to a server, as docs/protocol.md describes it.

use crate::images::Sample;
use imgsys_proto::{
    ClientMessage, FrameReader, ReadError, ServerMessage, VERSION, encode,
    message::{Hello, HistoryRequest, Page, Request, Status, Submit, Welcome},
};
use imgsys_types::{Cursor, HistoryFilter, JobRecord, Priority};
use std::{io, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long a connection may take to be opened, or bytes to be taken: a dead link is given up.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest that a single answer may take: PostgreSQL may be starting.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    /// What comes.
    pub frames: FrameReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// How the server greeted us.
    pub welcome: Welcome,
}

impl Connection {
    /// Connects and says hello, with this secret if there is one.
    pub async fn open(address: &str, token: Option<&str>) -> io::Result<Self> {
        timeout(LIMIT, Self::greet(address, token)).await?
    }

    async fn greet(address: &str, token: Option<&str>) -> io::Result<Self> {
        let (read, mut write) = TcpStream::connect(address).await?.into_split();
        let mut frames = FrameReader::new(read);
        let hello = ClientMessage::Hello(Hello {
            version: VERSION,
            program: "imgsys-faults".into(),
            token: token.map(str::to_owned),
        });
        send(&mut write, &hello, &[]).await?;
        match read_frame(&mut frames).await? {
            ServerMessage::Welcome(welcome) => Ok(Self {
                frames,
                write,
                welcome,
            }),
            other => Err(io::Error::other(format!("no welcome but {other:?}"))),
        }
    }

    /// Sends a message, and the body that goes with it.
    pub async fn send(&mut self, message: &ClientMessage, body: &[u8]) -> io::Result<()> {
        timeout(LIMIT, send(&mut self.write, message, body)).await?
    }

    /// Sends bytes as they are.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LIMIT, self.write.write_all(bytes)).await?
    }

    /// The next message. May be cancelled: nothing of it is lost.
    pub async fn next(&mut self) -> io::Result<ServerMessage> {
        read_frame(&mut self.frames).await
    }

    /// Sends a message and gives the next one that comes, for connections that watch nothing.
    pub async fn ask(&mut self, message: &ClientMessage) -> io::Result<ServerMessage> {
        self.send(message, &[]).await?;
        timeout(PATIENCE, self.next()).await?
    }

    /// How the server is doing.
    pub async fn status(&mut self) -> io::Result<Status> {
        match self.ask(&ClientMessage::Status(Request { req: 1 })).await? {
            ServerMessage::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of the owner's history, newest first, with at most `limit` jobs: the first one, or the
    /// one `after` another.
    pub async fn page(
        &mut self,
        limit: u32,
        after: Option<Cursor>,
        filter: HistoryFilter,
    ) -> io::Result<Page> {
        let request = ClientMessage::History(HistoryRequest {
            req: 2,
            limit,
            owner: None,
            after,
            filter,
        });
        match self.ask(&request).await? {
            ServerMessage::Page(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// All of the owner's history, newest first, page by page.
    pub async fn history(&mut self) -> io::Result<Vec<JobRecord>> {
        let mut jobs = Vec::new();
        let mut after = None;
        loop {
            let page = self.page(500, after, HistoryFilter::default()).await?;
            if page.partial {
                return Err(io::Error::other("the server can't ask its database"));
            }
            jobs.extend(page.jobs);
            after = page.next;
            if after.is_none() {
                return Ok(jobs);
            }
        }
    }
}

/// An answer that makes no sense here.
pub(crate) fn unexpected(message: &ServerMessage) -> io::Error {
    io::Error::other(format!("unexpected: {message:?}"))
}

async fn send(write: &mut OwnedWriteHalf, message: &ClientMessage, body: &[u8]) -> io::Result<()> {
    write.write_all(&frame(message, body)?).await
}

/// The bytes of a frame.
pub(crate) fn frame(message: &ClientMessage, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    encode(message, body.len() as u64, &mut frame).map_err(io::Error::other)?;
    frame.extend_from_slice(body);
    Ok(frame)
}

async fn read_frame(frames: &mut FrameReader<OwnedReadHalf>) -> io::Result<ServerMessage> {
    match frames.next().await {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(ReadError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A submit of this sample.
#[must_use]
pub fn submit(req: u64, sample: &Sample, watch: bool) -> ClientMessage {
    ClientMessage::Submit(Submit {
        req,
        job: sample.job,
        name: format!("{}.bmp", sample.job),
        size: sample.bytes.len() as u64,
        sha256: sample.sha256,
        priority: Priority::default(),
        watch,
    })
}
