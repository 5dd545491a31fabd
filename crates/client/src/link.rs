//! One connection to a server: opened, greeted, and found dead in time.

use crate::{backoff::Backoff, error::ClientError, server::Server};
use imgsys_proto::{
    ClientMessage, FrameError, FrameReader, ReadError, ServerMessage, VERSION, encode,
    message::{Goodbye, Hello, Welcome},
};
use imgsys_tls::stream::{ReadHalf, WriteHalf};
use imgsys_types::ErrorCode;
use rustix::net::sockopt;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long one attempt to connect and be greeted may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// After this long without a sign of life the server is asked for one.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(15);
/// After this long without a sign of life the connection counts as lost.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(30);
/// The same when part of a body was sent: it may be long on its way through a slow link, with our
/// `ping` behind it. Whether it is still moving, the kernel knows (`TCP_USER_TIMEOUT`).
const DEAD_AFTER_BODY: Duration = Duration::from_secs(120);

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Connecting or greeting took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// No sign of life.
    #[error("the server has been silent for too long")]
    Silent,
    /// The server ended the connection, without a word or within one.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the connection and said why.
    #[error("{} ({})", .0.text, .0.code)]
    Goodbye(Goodbye),
    /// There is no TLS between the two, or none that is safe.
    #[error("{advice}")]
    Tls {
        /// What is the matter.
        advice: &'static str,
        /// The error behind it.
        source: io::Error,
    },
    /// Whatever answers there is no imgsys server.
    #[error("it does not speak the imgsys protocol")]
    NoProtocol(#[source] FrameError),
    /// The server speaks another version.
    #[error("it speaks version {0} of the protocol, this program {VERSION}")]
    Version(u32),
    /// Something else than `welcome` came first.
    #[error("it did not greet")]
    NoWelcome,
    /// A message that can't be written.
    #[error("writing a message")]
    Encode(#[source] FrameError),
}

impl LinkError {
    /// An error from before the server has greeted.
    fn greeting(error: io::Error) -> Self {
        match imgsys_tls::advice(&error) {
            Some(advice) => Self::Tls {
                advice,
                source: error,
            },
            None => Self::Io(error),
        }
    }

    /// Whether trying again makes sense.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) | Self::Slow(_) | Self::Silent | Self::Closed => true,
            Self::Goodbye(goodbye) => !matches!(
                goodbye.code,
                ErrorCode::UnsupportedVersion
                    | ErrorCode::NotAllowed
                    | ErrorCode::HelloExpected
                    | ErrorCode::BadFrame
                    | ErrorCode::BadMessage
            ),
            Self::Tls { .. }
            | Self::NoProtocol(_)
            | Self::Version(_)
            | Self::NoWelcome
            | Self::Encode(_) => false,
        }
    }

    /// This error as the end of the call.
    pub(crate) fn fatal(self, address: &str) -> ClientError {
        match self {
            Self::Goodbye(goodbye) if goodbye.code == ErrorCode::NotAllowed => {
                ClientError::NotAllowed(goodbye.text)
            }
            source => ClientError::Unusable {
                address: address.to_owned(),
                source,
            },
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Cut => Self::Closed,
            ReadError::Frame(error) => Self::NoProtocol(error),
        }
    }
}

/// A connection that was greeted.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) reader: FrameReader<ReadHalf>,
    pub(crate) writer: WriteHalf,
    pub(crate) welcome: Welcome,
}

impl Link {
    /// Connects once.
    pub(crate) async fn open(server: &Server) -> Result<Self, LinkError> {
        timeout(ATTEMPT, Self::greet(server))
            .await
            .unwrap_or(Err(LinkError::Slow(ATTEMPT)))
    }

    async fn greet(server: &Server) -> Result<Self, LinkError> {
        let stream = server.connect().await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let (reader, mut writer) = server.secure(stream).await.map_err(LinkError::greeting)?;
        let hello = ClientMessage::Hello(Hello {
            version: VERSION,
            program: concat!("imgsys/", env!("CARGO_PKG_VERSION")).into(),
            token: server.token.as_ref().map(|token| token.secret().to_owned()),
        });
        // A server that is full says goodbye and closes without reading.
        let sent = send(&mut writer, &hello).await;
        let mut reader = FrameReader::new(reader);
        match reader.next::<ServerMessage>().await {
            Ok(Some((ServerMessage::Welcome(welcome), _))) if welcome.version == VERSION => {
                sent?;
                Ok(Self {
                    reader,
                    writer,
                    welcome,
                })
            }
            Ok(Some((ServerMessage::Welcome(welcome), _))) => {
                Err(LinkError::Version(welcome.version))
            }
            Ok(Some((ServerMessage::Goodbye(goodbye), _))) => Err(LinkError::Goodbye(goodbye)),
            Ok(Some(_)) => Err(LinkError::NoWelcome),
            Ok(None) => Err(LinkError::Closed),
            // Over TLS a server may say only now what it thinks of our certificate.
            Err(ReadError::Io(error)) => Err(LinkError::greeting(error)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The kernel is to find out when the other machine is gone.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PING_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    // In milliseconds: how long sent bytes may go without an acknowledgement.
    sockopt::set_tcp_user_timeout(stream, 30_000)?;
    Ok(())
}

/// Sends a message without a body.
pub(crate) async fn send(writer: &mut WriteHalf, message: &ClientMessage) -> Result<(), LinkError> {
    let mut frame = Vec::with_capacity(256);
    encode(message, 0, &mut frame).map_err(LinkError::Encode)?;
    writer.write_all(&frame).await?;
    writer.flush().await?;
    Ok(())
}

/// How long to go on trying to connect.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    began: Instant,
    patience: Duration,
}

impl Outage {
    /// One that begins now.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            began: Instant::now(),
            patience,
        }
    }

    /// Connects; tries again after pauses until the time is over or it makes no sense.
    pub(crate) async fn connect(
        self,
        server: Server,
        mut backoff: Backoff,
        on_failure: impl Fn(&LinkError),
    ) -> Result<Link, ClientError> {
        loop {
            let error = match Link::open(&server).await {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            on_failure(&error);
            if !error.may_pass() {
                return Err(error.fatal(&server.address));
            }
            let pause = backoff.pause();
            let tried = self.began.elapsed();
            if tried + pause >= self.patience {
                return Err(ClientError::Unreachable {
                    address: server.address,
                    tried: tried.max(Duration::from_millis(1)),
                    source: error,
                });
            }
            sleep(pause).await;
        }
    }
}

/// How long the other side may still be silent; shared by reader and writer.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    since: Instant,
    heard_ms: Arc<AtomicU64>,
    dead_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// One that begins now.
    pub(crate) fn new() -> Self {
        let pulse = Self {
            since: Instant::now(),
            heard_ms: Arc::default(),
            dead_ms: Arc::default(),
        };
        pulse.heard();
        pulse
    }

    /// Something was read.
    pub(crate) fn heard(&self) {
        self.beat(DEAD_AFTER);
    }

    /// The kernel took a piece of a body.
    pub(crate) fn sent(&self) {
        self.beat(DEAD_AFTER_BODY);
    }

    fn beat(&self, patience: Duration) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = self.since.elapsed();
        self.heard_ms.fetch_max(ms(now), Ordering::Relaxed);
        self.dead_ms
            .fetch_max(ms(now + patience), Ordering::Relaxed);
    }

    /// When to ask for a sign of life.
    pub(crate) fn ping_at(&self) -> Instant {
        self.at(&self.heard_ms) + PING_AFTER
    }

    /// When the connection counts as lost.
    pub(crate) fn dead_at(&self) -> Instant {
        self.at(&self.dead_ms)
    }

    fn at(&self, ms: &AtomicU64) -> Instant {
        self.since + Duration::from_millis(ms.load(Ordering::Relaxed))
    }
}
