//! A client that does not give up: it connects again, watches what was accepted and submits the
//! rest once more, as docs/protocol.md tells clients to.

use crate::images::Sample;
use imgsys_proto::{
    ClientMessage, FrameReader, ReadError, ServerMessage, VERSION, encode,
    message::{Hello, Submit, Watch, Welcome},
};
use imgsys_types::{JobId, JobResult, Priority};
use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

/// The longest that any single answer may take in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An open connection.
pub(crate) struct Connection {
    pub(crate) frames: FrameReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    pub(crate) welcome: Welcome,
}

impl Connection {
    /// Connects and says hello.
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        Self::open_as(address, None).await
    }

    /// Connects and says hello, with this secret.
    pub(crate) async fn open_as(address: &str, token: Option<&str>) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        let mut frames = FrameReader::new(read);
        let mut write = write;
        let hello = ClientMessage::Hello(Hello {
            version: VERSION,
            program: "test".into(),
            token: token.map(str::to_owned),
        });
        send(&mut write, &hello, &[]).await?;
        match next(&mut frames).await? {
            ServerMessage::Welcome(welcome) => Ok(Self {
                frames,
                write,
                welcome,
            }),
            other => Err(io::Error::other(format!("no welcome but {other:?}"))),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &ClientMessage, body: &[u8]) -> io::Result<()> {
        send(&mut self.write, message, body).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> io::Result<ServerMessage> {
        next(&mut self.frames).await
    }

    /// Sends a message and gives the next one that comes.
    pub(crate) async fn ask(&mut self, message: &ClientMessage) -> ServerMessage {
        self.send(message, &[]).await.unwrap();
        self.next().await.unwrap()
    }
}

async fn send(write: &mut OwnedWriteHalf, message: &ClientMessage, body: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    encode(message, body.len() as u64, &mut frame).unwrap();
    frame.extend_from_slice(body);
    write.write_all(&frame).await
}

async fn next(frames: &mut FrameReader<OwnedReadHalf>) -> io::Result<ServerMessage> {
    match timeout(PATIENCE, frames.next()).await {
        Ok(Ok(Some((message, _)))) => Ok(message),
        Ok(Ok(None)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(ReadError::Io(error))) => Err(error),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(elapsed) => panic!("no answer within {PATIENCE:?}: {elapsed}"),
    }
}

/// A submit of this sample.
pub(crate) fn submit(req: u64, sample: &Sample, watch: bool) -> ClientMessage {
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

/// What a client knows of its images.
struct Progress<'a> {
    samples: HashMap<JobId, &'a Sample>,
    accepted: HashSet<JobId>,
    results: HashMap<JobId, JobResult>,
}

/// Sends the samples, `in_flight` at a time, and gives every job's result once all are there.
pub(crate) async fn send_all(
    address: &str,
    samples: &[Sample],
    in_flight: usize,
) -> HashMap<JobId, JobResult> {
    let mut progress = Progress {
        samples: samples.iter().map(|sample| (sample.job, sample)).collect(),
        accepted: HashSet::new(),
        results: HashMap::new(),
    };
    while progress.results.len() < samples.len() {
        if let Err(error) = progress.connection(address, in_flight).await {
            eprintln!("connection lost: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    progress.results
}

impl Progress<'_> {
    /// Goes as far as one connection carries.
    async fn connection(&mut self, address: &str, in_flight: usize) -> io::Result<()> {
        let mut connection = Connection::open(address).await?;
        let open = |id: &&JobId| !self.results.contains_key(id);
        let watched: Vec<JobId> = self.accepted.iter().filter(open).copied().collect();
        if !watched.is_empty() {
            let watch = ClientMessage::Watch(Watch {
                req: 0,
                jobs: watched,
            });
            connection.send(&watch, &[]).await?;
        }
        let mut todo: Vec<JobId> = self.samples.keys().copied().collect();
        todo.retain(|id| !self.accepted.contains(id) && !self.results.contains_key(id));
        let mut under_way = 0;
        while self.results.len() < self.samples.len() {
            while under_way < in_flight
                && let Some(id) = todo.pop()
            {
                let sample = self.samples[&id];
                connection
                    .send(&submit(1, sample, true), &sample.bytes)
                    .await?;
                under_way += 1;
            }
            match connection.next().await? {
                ServerMessage::Accepted(accepted) => {
                    self.accepted.insert(accepted.job);
                    under_way -= 1;
                }
                ServerMessage::Result(end) => {
                    let told = self.results.insert(end.job, end.result.clone());
                    assert!(
                        told.is_none_or(|before| before == end.result),
                        "two results for {}",
                        end.job
                    );
                }
                ServerMessage::Watching(watching) => {
                    assert_eq!(watching.unknown, [], "accepted jobs are known");
                }
                ServerMessage::Rejected(rejected) if rejected.code.is_transient() => {
                    sleep(Duration::from_millis(100)).await;
                    match rejected.job {
                        Some(job) => {
                            todo.push(job);
                            under_way -= 1;
                        }
                        // The watch: try it on another connection.
                        None => return Err(io::Error::other(rejected.text)),
                    }
                }
                ServerMessage::Goodbye(goodbye) => {
                    return Err(io::Error::other(goodbye.text));
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        Ok(())
    }
}
