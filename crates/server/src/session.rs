//! One client's connection: the handshake, then requests, until it ends.
//!
//! A session is two tasks. This one reads requests and has them done; [`crate::writer`] writes out
//! what gathers in the [`Outbox`]. Submits are accepted in tasks of their own, so that many share
//! the store's flush.

use crate::{
    allowed::{counted, needed},
    auth::{Grant, Refused, Scope},
    greeting::{handshake, not_allowed, shutting_down},
    outbox::Outbox,
    shared::{Shared, refuse},
    submit::{DISCARD_MAX, Held, Refusal},
    tls::{self, Entered},
    writer,
};
use imgsys_proto::{ClientMessage, FrameReader, ReadError, ServerMessage, message::Submit};
use imgsys_tls::stream::ReadHalf;
use imgsys_types::{ErrorCode, Owner};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// What the program calls itself to its clients.
pub(crate) const PROGRAM: &str = concat!("imgsys-server ", env!("CARGO_PKG_VERSION"));

/// How long a connection that was told goodbye may take to hear it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: Owner,
    grant: Grant,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) shutdown: CancellationToken,
    /// Submits that await `accepted`.
    in_flight: AtomicUsize,
    /// What answers them.
    accepting: TaskTracker,
    /// Cancelled once nothing can be written to the client any more.
    gone: CancellationToken,
}

/// A submit's place among those of its connection that are not answered, until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Session>);

impl InFlight {
    fn new(session: &Arc<Session>) -> Self {
        session.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(session))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection ends.
pub(crate) enum End {
    /// The client is gone.
    Left,
    /// It is told why.
    Goodbye(ErrorCode, String),
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::Goodbye(
                ErrorCode::TimedOut,
                "a frame took too long to arrive".into(),
            ),
            ReadError::Io(_) | ReadError::Cut => Self::Left,
            ReadError::Frame(error) => Self::Goodbye(error.code(), error.to_string()),
        }
    }
}

/// Serves a client until it leaves, misbehaves, or the server shuts down.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
) {
    let deadline = Instant::now() + shared.config.limits.handshake;
    let entered = tokio::select! {
        entered = tls::enter(&shared, stream, deadline) => entered,
        // Nothing can be said to a client that is still at TLS.
        () = shutdown.cancelled() => return,
    };
    let Entered {
        read,
        write,
        certificate,
    } = match entered {
        Ok(entered) => entered,
        Err(problem) => {
            debug!(%peer, "no connection: {problem}");
            return;
        }
    };
    let outbox = Arc::new(Outbox::default());
    let gone = CancellationToken::new();
    let writer = tokio::spawn(writer::run(
        Arc::clone(&shared),
        Arc::clone(&outbox),
        write,
        gone.clone(),
    ));
    let mut frames = FrameReader::new(read);
    let server = Arc::clone(&shared);
    let end = match handshake(
        &shared,
        &outbox,
        &mut frames,
        certificate,
        deadline,
        &shutdown,
    )
    .await
    {
        Err(end) => end,
        Ok(grant) => {
            let session = Arc::new(Session {
                shared,
                owner: grant.owner.clone(),
                grant,
                outbox: Arc::clone(&outbox),
                shutdown,
                in_flight: AtomicUsize::new(0),
                accepting: TaskTracker::new(),
                gone,
            });
            let end = session.requests(&mut frames).await;
            session.leave();
            end
        }
    };
    match end {
        End::Left => {
            debug!(%peer, "client left");
            outbox.close();
            writer.abort();
        }
        End::Goodbye(code, text) => {
            debug!(%peer, %code, "goodbye: {text}");
            server.metrics.goodbyes.add(&code, 1);
            outbox.goodbye(code, text);
            // A socket closed with bytes unread is reset, and the goodbye with it: read on a little.
            let farewell = async {
                let _ = writer.await;
                drain(&mut frames).await;
            };
            let _ = timeout(FAREWELL, farewell).await;
        }
    }
}

async fn drain(frames: &mut FrameReader<ReadHalf>) {
    let mut left = DISCARD_MAX;
    while left > 0 {
        match frames.discard(left).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

impl Session {
    async fn requests(self: &Arc<Self>, frames: &mut FrameReader<ReadHalf>) -> End {
        let mut tokens = self.shared.tokens.changes();
        let mut expired = std::pin::pin!(self.grant.expired());
        loop {
            let next = tokio::select! {
                next = self.next(frames) => next,
                Ok(()) = tokens.changed() => {
                    if let Err(refused) = self.grant.holds(&self.shared.tokens) {
                        return not_allowed(refused);
                    }
                    continue;
                }
                () = &mut expired => return not_allowed(Refused::Expired),
                () = self.gone.cancelled() => return End::Left,
                () = self.shutdown.cancelled() => {
                    self.finish_accepting().await;
                    return shutting_down();
                }
            };
            let done = match next {
                Ok(Some((message, body))) => self.request(message, body, frames).await,
                Ok(None) => Err(End::Left),
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
            self.outbox.room().await;
        }
    }

    /// The next request. A client may be silent only while it is owed an answer.
    async fn next(
        &self,
        frames: &mut FrameReader<ReadHalf>,
    ) -> Result<Option<(ClientMessage, u32)>, End> {
        let idle = self.shared.config.limits.idle;
        loop {
            if let Ok(next) = timeout(idle, frames.next()).await {
                return next.map_err(End::from);
            }
            if frames.is_within_frame() {
                let text = format!("half a frame, then nothing for {idle:?}");
                return Err(End::Goodbye(ErrorCode::TimedOut, text));
            }
            if self.in_flight() == 0 && self.outbox.owed() == 0 && self.outbox.is_empty() {
                let text = format!("nothing was asked for {idle:?}");
                return Err(End::Goodbye(ErrorCode::TimedOut, text));
            }
        }
    }

    async fn request(
        self: &Arc<Self>,
        message: ClientMessage,
        body: u32,
        frames: &mut FrameReader<ReadHalf>,
    ) -> Result<(), End> {
        if body > 0 && !matches!(message, ClientMessage::Submit(_)) {
            let text = "only submit may have a body";
            return Err(End::Goodbye(ErrorCode::BadMessage, text.into()));
        }
        let shared = &self.shared;
        if let Some((req, scopes)) = needed(&message)
            && let Some(scope) = scopes.iter().find(|&&scope| !self.grant.allows(scope))
        {
            let text = format!("the token lacks the scope {scope}");
            let rejected = refuse(req, ErrorCode::NotAllowed, text);
            self.outbox.send(&ServerMessage::Rejected(rejected));
            return self.skip_body(ErrorCode::NotAllowed, frames).await;
        }
        if let Some(req) = counted(&message)
            && let Err(rejected) = shared
                .quotas
                .request(&self.owner, &shared.config.limits, req)
        {
            let code = rejected.code;
            self.outbox.send(&ServerMessage::Rejected(rejected));
            return self.skip_body(code, frames).await;
        }
        match message {
            ClientMessage::Hello(_) => {
                let text = "hello comes once, at the beginning";
                return Err(End::Goodbye(ErrorCode::BadMessage, text.into()));
            }
            ClientMessage::Submit(submit) => return self.submit(submit, body, frames).await,
            ClientMessage::Ping(request) => self.outbox.send(&ServerMessage::Pong(request)),
            // In boxes, for most connections never need the room that these take.
            ClientMessage::Watch(watch) => Box::pin(self.watch(watch)).await,
            ClientMessage::History(request) => Box::pin(self.history(request)).await,
            ClientMessage::Show(request) => Box::pin(self.show(request)).await,
            ClientMessage::Status(request) => Box::pin(self.status(request)).await,
            ClientMessage::Fetch(request) => Box::pin(self.fetch(request)).await,
            ClientMessage::Cancel(request) => Box::pin(self.cancel(request)).await,
            ClientMessage::Delete(request) => Box::pin(self.delete(request)).await,
            ClientMessage::Reanalyze(request) => Box::pin(self.reanalyze(request)).await,
            ClientMessage::Runs(request) => Box::pin(self.runs(request)).await,
            ClientMessage::Similar(request) => Box::pin(self.similar(request)).await,
        }
        Ok(())
    }

    async fn submit(
        self: &Arc<Self>,
        submit: Submit,
        body: u32,
        frames: &mut FrameReader<ReadHalf>,
    ) -> Result<(), End> {
        let received = match self.check(&submit, body) {
            Ok(quota) => {
                let received = self.receive(frames, &submit).await?;
                received.map(|(body, memory)| {
                    let held = Held {
                        quota,
                        in_flight: InFlight::new(self),
                        memory,
                    };
                    (body, held)
                })
            }
            Err(refusal) => Err(refusal),
        };
        match received {
            Ok((body, held)) => {
                let accepting = Arc::clone(self).accept(submit, body, held);
                self.accepting.spawn(accepting);
                Ok(())
            }
            Err(refusal) => self.refuse_with_body(&submit, refusal, frames).await,
        }
    }

    /// Refuses a submit whose body may still be coming.
    async fn refuse_with_body(
        &self,
        submit: &Submit,
        refusal: Refusal,
        frames: &mut FrameReader<ReadHalf>,
    ) -> Result<(), End> {
        let code = refusal.code;
        self.refuse(submit.req, submit, refusal);
        self.skip_body(code, frames).await
    }

    /// Throws away the body of a request that was refused, if there is one and it is not too long.
    async fn skip_body(
        &self,
        code: ErrorCode,
        frames: &mut FrameReader<ReadHalf>,
    ) -> Result<(), End> {
        if frames.body_left() > DISCARD_MAX {
            let text = "the rest of what was refused is too long to be thrown away";
            return Err(End::Goodbye(code, text.into()));
        }
        let pace = Duration::MAX;
        while self.in_time(pace, frames.body_chunk()).await?.is_some() {}
        Ok(())
    }

    /// Awaits a piece of a frame, but not for ever, and not longer than its frame may take.
    pub(crate) async fn in_time<T>(
        &self,
        rest: Duration,
        read: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let limit = self.shared.config.limits.idle.min(rest);
        timeout(limit, read)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Waits until every submit that was received is answered.
    async fn finish_accepting(&self) {
        self.accepting.close();
        let limit = self.shared.config.server.drain;
        if timeout(limit, self.accepting.wait()).await.is_err() {
            warn!("{} submits are not answered in time", self.accepting.len());
        }
    }

    /// Whether this owner's jobs are to be seen and changed here.
    pub(crate) fn reaches(&self, owner: &Owner) -> bool {
        self.owner == *owner || self.reaches_all()
    }

    /// The same of all owners'.
    pub(crate) fn reaches_all(&self) -> bool {
        self.grant.allows(Scope::Admin)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lets go of what the client waited for.
    fn leave(&self) {
        let owed = self.outbox.take_owed();
        let mut book = self.shared.book();
        for id in owed {
            book.unwatch(id, &self.outbox);
        }
    }
}
