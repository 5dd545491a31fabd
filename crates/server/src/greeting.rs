//! The first words of a connection: hello and welcome, or goodbye.

use crate::{
    auth::{Grant, Refused},
    outbox::Outbox,
    session::{End, FAREWELL, PROGRAM},
    shared::Shared,
    tls::{self, Entered},
};
use imgsys_proto::{
    ClientMessage, FrameReader, ServerMessage, VERSION,
    message::{Goodbye, Hello, Welcome},
};
use imgsys_tls::stream::ReadHalf;
use imgsys_types::{Digest, ErrorCode};
use std::sync::atomic::Ordering;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// As many clients are told over TLS at once that there is no place for them; others are closed
/// without a word, for TLS has its price.
const TURNED_AWAY: usize = 100;

/// Tells a client that there is no place for it.
pub(crate) async fn turn_away(shared: &Shared, stream: TcpStream, most: usize) {
    let places = shared.connections.load(Ordering::Relaxed);
    if shared.tls.is_some() && places > most + TURNED_AWAY {
        return;
    }
    let deadline = Instant::now() + FAREWELL;
    let Ok(Entered { mut write, .. }) = tls::enter(shared, stream, deadline).await else {
        return;
    };
    let mut frame = Vec::new();
    let goodbye = ServerMessage::Goodbye(Goodbye {
        code: ErrorCode::TooManyConnections,
        text: format!("{most} clients are connected already: try later"),
    });
    if imgsys_proto::encode(&goodbye, 0, &mut frame).is_ok() {
        let told = async {
            write.write_all(&frame).await?;
            write.shutdown().await
        };
        if let Ok(Err(problem)) = timeout(FAREWELL, told).await {
            debug!("turning a client away: {problem}");
        }
    }
}

/// Hello and welcome.
pub(crate) async fn handshake(
    shared: &Shared,
    outbox: &Outbox,
    frames: &mut FrameReader<ReadHalf>,
    certificate: Option<Digest>,
    deadline: Instant,
    shutdown: &CancellationToken,
) -> Result<Grant, End> {
    let limits = &shared.config.limits;
    let first = tokio::select! {
        first = timeout_at(deadline, frames.next::<ClientMessage>()) => first,
        () = shutdown.cancelled() => return Err(shutting_down()),
    };
    let Ok(first) = first else {
        let text = format!("no hello within {:?}", limits.handshake);
        return Err(End::Goodbye(ErrorCode::TimedOut, text));
    };
    let hello = match first? {
        None => return Err(End::Left),
        Some((ClientMessage::Hello(hello), 0)) => hello,
        Some(_) => {
            let text = "the first message must be hello, without a body";
            return Err(End::Goodbye(ErrorCode::HelloExpected, text.into()));
        }
    };
    let Hello {
        version,
        program,
        token,
    } = hello;
    if version != VERSION {
        let text = format!("this server speaks version {VERSION} of the protocol, not {version}");
        return Err(End::Goodbye(ErrorCode::UnsupportedVersion, text));
    }
    let grant = shared.tokens.admit(token.as_deref(), certificate);
    let grant = grant.map_err(not_allowed)?;
    debug!(program, owner = %grant.owner, "hello");
    outbox.send(&ServerMessage::Welcome(Welcome {
        version: VERSION,
        program: PROGRAM.into(),
        server: shared.server,
        owner: grant.owner.clone(),
        limits: limits.wire(),
    }));
    Ok(grant)
}

pub(crate) fn not_allowed(refused: Refused) -> End {
    End::Goodbye(ErrorCode::NotAllowed, refused.to_string())
}

pub(crate) fn shutting_down() -> End {
    let text = "the server is going down: connect again";
    End::Goodbye(ErrorCode::ShuttingDown, text.into())
}
