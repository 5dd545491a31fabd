//! A connection's first bytes: TLS or none, as the server is configured.

use crate::{
    session::FAREWELL,
    shared::{Shared, chain},
};
use imgsys_proto::{ServerMessage, message::Goodbye};
use imgsys_service::{Config, Exit};
use imgsys_tls::{Identity, ServerFiles, TlsError, fingerprint, stream};
use imgsys_types::{Digest, ErrorCode};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often the certificate's files are looked at.
const FOLLOW: Duration = Duration::from_secs(1);

/// A connection that is ready for frames.
pub(crate) struct Entered {
    pub(crate) read: stream::ReadHalf,
    pub(crate) write: stream::WriteHalf,
    /// The fingerprint of the certificate that the client has shown.
    pub(crate) certificate: Option<Digest>,
}

/// Why a connection did not get as far as its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    /// It speaks no TLS.
    Plain,
    /// Its time was over.
    Late,
    /// Either side did not take the other's TLS: versions, certificates.
    Refused,
    /// It was closed.
    Closed,
}

impl Obstacle {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Late, Self::Refused, Self::Closed];

    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn of(problem: &io::Error) -> Self {
        match problem.kind() {
            io::ErrorKind::TimedOut => Self::Late,
            // What is not as TLS has it, or as we do.
            io::ErrorKind::InvalidData => Self::Refused,
            _ => Self::Closed,
        }
    }
}

/// Reads the server's certificate, if it has one.
pub(crate) fn open(config: &Config) -> Result<Option<Arc<Identity>>, Exit> {
    let tls = &config.server.tls;
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        if tls.certificate.is_some() || tls.key.is_some() || tls.client_ca.is_some() || tls.http {
            let text = "server.tls: both are needed for TLS: certificate and key";
            return Err(Exit::Usage(text.into()));
        }
        return Ok(None);
    };
    let files = ServerFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: tls.client_ca.clone(),
    };
    let wrong = |problem: TlsError| Exit::Usage(format!("server.tls: {}", chain(&problem)));
    Ok(Some(Arc::new(Identity::open(files).map_err(wrong)?)))
}

/// Reads the files again whenever they have changed, until `shutdown`. Those that can't be used
/// leave the certificate as it was: connections go on to be taken in.
pub(crate) async fn follow(identity: Arc<Identity>, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(FOLLOW);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shutdown.cancelled() => return,
        }
        match identity.refresh() {
            Ok(false) => {}
            Ok(true) => info!("new connections are shown another certificate from now on"),
            Err(problem) => error!(
                "the certificate stays as it was, for the new one can't be used: {}",
                chain(&problem)
            ),
        }
    }
}

/// Begins TLS, if the server has a certificate. Whoever does not get there in time is left alone.
pub(crate) async fn enter(
    shared: &Shared,
    tcp: TcpStream,
    deadline: Instant,
) -> io::Result<Entered> {
    let Some(identity) = &shared.tls else {
        let (read, write) = stream::plain(tcp);
        return Ok(Entered {
            read,
            write,
            certificate: None,
        });
    };
    let counted = |obstacle| shared.metrics.tls_failures.add(&obstacle, 1);
    let failed = |problem: &io::Error| counted(Obstacle::of(problem));
    let first = first_byte(&tcp, deadline).await.inspect_err(failed)?;
    // A frame begins with its head's length, which is below 2^24; TLS with another byte.
    if first == 0 {
        counted(Obstacle::Plain);
        say_tls(shared, tcp).await?;
        return Err(io::Error::other("it speaks no TLS"));
    }
    begin(identity, tcp, deadline).await.inspect_err(failed)
}

async fn first_byte(tcp: &TcpStream, deadline: Instant) -> io::Result<u8> {
    let mut first = [0];
    let read = timeout_at(deadline, tcp.peek(&mut first)).await??;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(first[0])
}

async fn begin(identity: &Identity, tcp: TcpStream, deadline: Instant) -> io::Result<Entered> {
    let accepting = stream::accept(identity.acceptor(), tcp);
    let (read, write, certificate) = timeout_at(deadline, accepting).await??;
    Ok(Entered {
        read,
        write,
        certificate: certificate.map(|shown| Digest::from_bytes(fingerprint(&shown))),
    })
}

/// Tells a client that speaks no TLS what is the matter, in the way that it understands.
async fn say_tls(shared: &Shared, mut tcp: TcpStream) -> io::Result<()> {
    let code = ErrorCode::NotAllowed;
    shared.metrics.goodbyes.add(&code, 1);
    let goodbye = ServerMessage::Goodbye(Goodbye {
        code,
        text: "this server is reached over TLS only: write tls://HOST:PORT".into(),
    });
    let mut frame = Vec::new();
    imgsys_proto::encode(&goodbye, 0, &mut frame).map_err(io::Error::other)?;
    let telling = async {
        tcp.write_all(&frame).await?;
        tcp.shutdown().await?;
        // A socket closed with bytes unread is reset, and the goodbye with it.
        let mut left = crate::submit::DISCARD_MAX as usize;
        let mut buffer = vec![0; 4096];
        while left > 0 {
            let read = tokio::io::AsyncReadExt::read(&mut tcp, &mut buffer).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok(())
    };
    timeout_at(Instant::now() + FAREWELL, telling).await?
}
