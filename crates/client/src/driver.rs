//! Drives a [`Session`]: connection, files and clock on one side, reports on the other.

use crate::{
    backoff::Backoff,
    context::Context,
    error::{ClientError, chain},
    files::{self, Candidate, Hashed, Problem},
    link::{Link, LinkError, Outage, Pulse},
    report::{Report, reason},
    session::{Action, Session},
    times::Span,
    writer::{self, Outgoing, Trouble},
};
use imgsys_proto::{ClientMessage, FrameReader, ServerMessage, message::Request};
use imgsys_tls::stream::ReadHalf;
use imgsys_types::{ErrorCode, JobId};
use std::{
    future::{Future, pending},
    pin::Pin,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::{JoinHandle, spawn_blocking},
    time::sleep_until,
};

/// The number of a `ping`; the session's own requests begin at 1.
const PING: u64 = 0;

type Dialling = Pin<Box<dyn Future<Output = Result<Link, ClientError>> + Send>>;
type HashDone = (JobId, Result<Hashed, Problem>);

/// Told of every report, and whenever numbers change.
pub(crate) trait Audience {
    /// A file's or job's story has ended.
    fn report(&mut self, report: Report) -> Result<(), ClientError>;
    /// Something has moved.
    fn progress(&mut self, session: &Session, all_found: bool);
}

/// A connection in use.
struct Up {
    reader: FrameReader<ReadHalf>,
    outgoing: UnboundedSender<Outgoing>,
    trouble: UnboundedReceiver<Trouble>,
    writer: JoinHandle<()>,
    pulse: Pulse,
    pinged: bool,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Drives a session to its end.
pub(crate) struct Driver<'a, A> {
    context: &'a Context,
    session: &'a mut Session,
    audience: &'a mut A,
    /// Where files come from; `None` once there are no more.
    files: Option<mpsc::Receiver<Candidate>>,
    up: Option<Up>,
    dialling: Option<Dialling>,
    backoff: Backoff,
    /// Whether the outage that is going on was told.
    outage_told: bool,
    outage: Option<Outage>,
    /// Whether there ever was a connection.
    greeted: bool,
    hashes: (UnboundedSender<HashDone>, UnboundedReceiver<HashDone>),
}

/// What happened.
enum Event {
    Found(Option<Candidate>),
    Linked(Box<Result<Link, ClientError>>),
    Heard(Box<Result<Option<ServerMessage>, LinkError>>),
    Trouble(Option<Trouble>),
    Hashed(HashDone),
    Tick,
    TimedOut,
    Interrupted,
}

impl<'a, A: Audience> Driver<'a, A> {
    /// A driver without a connection; it makes one once there is something to say.
    pub(crate) fn new(
        context: &'a Context,
        session: &'a mut Session,
        audience: &'a mut A,
        files: Option<mpsc::Receiver<Candidate>>,
    ) -> Self {
        Self {
            context,
            session,
            audience,
            files,
            up: None,
            dialling: None,
            backoff: Backoff::connection(),
            outage_told: false,
            outage: None,
            greeted: false,
            hashes: mpsc::unbounded_channel(),
        }
    }

    /// Goes on until every story has ended. On an error the stories left over are ended too, so
    /// that every file that was taken up gets its report.
    pub(crate) async fn run(mut self, time_limit: Option<Duration>) -> Result<(), ClientError> {
        let time_is_over = time_limit.map(|limit| (Instant::now() + limit, limit));
        let error = match self.until_done(time_is_over).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let (why, detail) = match &error {
            ClientError::TimedOut(_) => (reason::TIMED_OUT, chain(&error)),
            ClientError::Interrupted => (reason::INTERRUPTED, chain(&error)),
            ClientError::NotAllowed(text) => (ErrorCode::NotAllowed.as_str(), text.clone()),
            _ => (reason::UNREACHABLE, chain(&error)),
        };
        let cut_short = matches!(error, ClientError::TimedOut(_) | ClientError::Interrupted);
        // Where there never was a server to talk to, the error itself says it all.
        if self.greeted || cut_short {
            self.session.give_up(why, &detail, Instant::now());
            self.act()?;
        }
        Err(error)
    }

    async fn until_done(&mut self, limit: Option<(Instant, Duration)>) -> Result<(), ClientError> {
        loop {
            self.act()?;
            self.audience.progress(self.session, self.files.is_none());
            if let Some((_, text)) = self.session.refusal() {
                return Err(ClientError::NotAllowed(text.clone()));
            }
            if self.files.is_none() && self.session.is_empty() {
                return Ok(());
            }
            if self.up.is_none() && self.dialling.is_none() && !self.session.is_empty() {
                self.dial();
            }
            let event = self.next_event(limit.map(|(at, _)| at)).await;
            match event {
                Event::Found(Some(Ok(file))) => {
                    self.session.add(file, Instant::now());
                }
                Event::Found(Some(Err(report))) => self.audience.report(report)?,
                Event::Found(None) => self.files = None,
                Event::Linked(link) => self.linked(*link)?,
                Event::Heard(heard) => self.heard(*heard)?,
                Event::Trouble(Some(Trouble::Link(error))) => self.lost(error)?,
                Event::Trouble(None) => self.lost(LinkError::Closed)?,
                Event::Hashed((job, Ok(hashed))) => self.session.hashed(job, hashed),
                Event::Trouble(Some(Trouble::File(job, problem)))
                | Event::Hashed((job, Err(problem))) => {
                    self.session.failed(job, problem, Instant::now());
                }
                Event::Tick => self.tick()?,
                Event::TimedOut => {
                    let limit = limit.map(|(_, limit)| limit).unwrap_or_default();
                    return Err(ClientError::TimedOut(limit));
                }
                Event::Interrupted => return Err(ClientError::Interrupted),
            }
        }
    }

    /// Waits for the next thing to happen. Nothing is lost when the waiting is cut short.
    async fn next_event(&mut self, time_is_over: Option<Instant>) -> Event {
        let wake = self
            .up
            .as_ref()
            .map(|up| {
                if up.pinged {
                    up.pulse.dead_at()
                } else {
                    up.pulse.ping_at()
                }
            })
            .into_iter()
            .chain(self.session.deadline())
            .min();
        let wants_file = self.files.is_some() && self.session.wants_more();
        let (reader, trouble) = match &mut self.up {
            Some(up) => (Some(&mut up.reader), Some(&mut up.trouble)),
            None => (None, None),
        };
        tokio::select! {
            found = or_never(self.files.as_mut().map(mpsc::Receiver::recv)), if wants_file => Event::Found(found),
            link = or_never(self.dialling.as_mut()) => Event::Linked(Box::new(link)),
            heard = or_never(reader.map(FrameReader::next::<ServerMessage>)) => {
                let heard = heard.map(|frame| frame.map(|(message, _)| message));
                Event::Heard(Box::new(heard.map_err(LinkError::from)))
            }
            trouble = or_never(trouble.map(UnboundedReceiver::recv)) => Event::Trouble(trouble),
            Some(done) = self.hashes.1.recv() => Event::Hashed(done),
            () = or_never(wake.map(|at| sleep_until(at.into()))) => Event::Tick,
            () = or_never(time_is_over.map(|at| sleep_until(at.into()))) => Event::TimedOut,
            () = self.context.interrupted() => Event::Interrupted,
        }
    }

    /// Does all that the session asks for.
    fn act(&mut self) -> Result<(), ClientError> {
        while let Some(action) = self.session.poll(Instant::now()) {
            match action {
                Action::Report(report) => self.audience.report(report)?,
                Action::Hash { job, path } => {
                    let done = self.hashes.0.clone();
                    spawn_blocking(move || {
                        // Nobody listens once the call is over.
                        let _ = done.send((job, files::hash(&path)));
                    });
                }
                Action::Send(message) => self.send(Outgoing::Message(message)),
                Action::SendBody { job, submit, body } => {
                    self.send(Outgoing::Image { job, submit, body });
                }
            }
        }
        Ok(())
    }

    fn send(&self, outgoing: Outgoing) {
        if let Some(up) = &self.up {
            // A writer that is gone has said why, which comes as an event.
            let _ = up.outgoing.send(outgoing);
        }
    }

    fn dial(&mut self) {
        let patience = if self.session.ever_accepted() {
            self.context.retry_for
        } else {
            self.context.connect_timeout.min(self.context.retry_for)
        };
        let outage = self
            .outage
            .get_or_insert_with(|| Outage::new(patience))
            .clone();
        let (server, backoff) = (self.context.server.clone(), self.backoff.clone());
        let screen = self.context.screen.clone();
        self.dialling = Some(Box::pin(outage.connect(server, backoff, move |error| {
            screen.verbose(&format!("connecting: {}", chain(error)));
        })));
    }

    fn linked(&mut self, link: Result<Link, ClientError>) -> Result<(), ClientError> {
        self.dialling = None;
        let Link {
            reader,
            writer,
            welcome,
        } = link?;
        self.context.screen.verbose(&format!(
            "connected to {} ({}, server {}) as {}",
            self.context.server.address, welcome.program, welcome.server, welcome.owner
        ));
        self.greeted = true;
        let pulse = Pulse::new();
        let (outgoing, to_write) = mpsc::unbounded_channel();
        let (to_tell, trouble) = mpsc::unbounded_channel();
        let writer = tokio::spawn(writer::run(writer, to_write, to_tell, pulse.clone()));
        self.up = Some(Up {
            reader,
            outgoing,
            trouble,
            writer,
            pulse,
            pinged: false,
        });
        self.session.connected(welcome.limits);
        Ok(())
    }

    fn heard(
        &mut self,
        heard: Result<Option<ServerMessage>, LinkError>,
    ) -> Result<(), ClientError> {
        let message = match heard {
            Ok(Some(ServerMessage::Goodbye(goodbye))) => {
                return self.lost(LinkError::Goodbye(goodbye));
            }
            Ok(Some(message)) => message,
            Ok(None) => return self.lost(LinkError::Closed),
            Err(error) => return self.lost(error),
        };
        if let Some(up) = &mut self.up {
            up.pulse.heard();
            up.pinged = false;
        }
        if !matches!(message, ServerMessage::Rejected(_)) {
            // The connection is good for something: the outage, if there was one, is over.
            self.outage = None;
            self.outage_told = false;
            self.backoff.reset();
        }
        self.session.receive(message, Instant::now());
        Ok(())
    }

    fn tick(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let Some(up) = &mut self.up else {
            return Ok(());
        };
        if now >= up.pulse.dead_at() {
            return self.lost(LinkError::Silent);
        }
        if now >= up.pulse.ping_at() && !up.pinged {
            up.pinged = true;
            self.send(Outgoing::Message(ClientMessage::Ping(Request {
                req: PING,
            })));
        }
        Ok(())
    }

    /// The connection is gone. Fails if there is no point in making another.
    fn lost(&mut self, error: LinkError) -> Result<(), ClientError> {
        if self.up.take().is_none() {
            return Ok(());
        }
        self.session.lost(Instant::now());
        if !error.may_pass() {
            return Err(error.fatal(&self.context.server.address));
        }
        let screen = &self.context.screen;
        let text = format!(
            "lost the connection to {}: {}",
            self.context.server.address,
            chain(&error)
        );
        if self.session.ever_accepted() && !self.outage_told {
            self.outage_told = true;
            let patience = Span(self.context.retry_for);
            screen.note(&format!("{text}; trying again for up to {patience}"));
        } else {
            screen.verbose(&text);
        }
        if !self.session.is_empty() {
            self.pause_and_dial();
        }
        Ok(())
    }

    /// Connects again after a pause: a server that accepts and hangs up is not to be run over.
    fn pause_and_dial(&mut self) {
        let pause = self.backoff.pause();
        self.dial();
        if let Some(dial) = self.dialling.take() {
            self.dialling = Some(Box::pin(async move {
                tokio::time::sleep(pause).await;
                dial.await
            }));
        }
    }
}

/// The future's value, or never.
async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
