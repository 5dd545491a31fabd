//! One question, one answer: for every command but `send` and `wait`.

use crate::{
    backoff::Backoff,
    context::Context,
    error::{ClientError, chain},
    link::{DEAD_AFTER, Link, LinkError, Outage, PING_AFTER, send},
};
use bytes::Bytes;
use imgsys_proto::{ClientMessage, ServerMessage, message::Request};
use imgsys_types::ErrorCode;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Asks a server one thing after the other. A question whose answer was lost with the connection is
/// asked again, so questions must be such that asking twice does no harm.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    context: &'a Context,
    link: Option<Link>,
    last_req: u64,
    backoff: Backoff,
    /// Since when nothing was answered.
    stuck_since: Instant,
    answered_once: bool,
}

impl<'a> Caller<'a> {
    /// A caller without a connection; the first question makes one.
    pub(crate) fn new(context: &'a Context) -> Self {
        Self {
            context,
            link: None,
            last_req: 0,
            backoff: Backoff::connection(),
            stuck_since: Instant::now(),
            answered_once: false,
        }
    }

    /// Asks, and waits for the answer. `question` is given the request's number.
    pub(crate) async fn call(
        &mut self,
        question: impl Fn(u64) -> ClientMessage,
    ) -> Result<ServerMessage, ClientError> {
        self.stuck_since = Instant::now();
        let mut refusals = Backoff::request();
        loop {
            match self.ask(&question).await? {
                Ok(ServerMessage::Rejected(rejected)) => {
                    if !rejected.code.is_transient() || self.is_out_of_patience() {
                        return Err(ClientError::refused(rejected.code, rejected.text));
                    }
                    let pause = rejected.retry_after_ms.map(Duration::from_millis);
                    let pause = pause.unwrap_or_else(|| refusals.pause());
                    self.context
                        .screen
                        .verbose(&format!("{}; trying again", rejected.text));
                    sleep(pause.min(self.patience())).await;
                }
                Ok(answer) => {
                    self.answered_once = true;
                    self.backoff.reset();
                    return Ok(answer);
                }
                Err(error) => self.lost(error).await?,
            }
        }
    }

    /// The next piece of the body of the last answer; `None` at its end.
    pub(crate) async fn body_chunk(&mut self) -> Result<Option<Bytes>, LinkError> {
        let Some(link) = &mut self.link else {
            return Err(LinkError::Closed);
        };
        let chunk = timeout(DEAD_AFTER, link.reader.body_chunk()).await;
        Ok(chunk.map_err(|_| LinkError::Silent)??)
    }

    /// The connection is of no use any more: makes an end of it and waits a moment before the next.
    pub(crate) async fn lost(&mut self, error: LinkError) -> Result<(), ClientError> {
        self.link = None;
        let address = &self.context.server.address;
        if !error.may_pass() {
            return Err(error.fatal(address));
        }
        self.context
            .screen
            .verbose(&format!("lost the connection: {}", chain(&error)));
        if self.is_out_of_patience() {
            return Err(ClientError::Unreachable {
                address: address.clone(),
                tried: self.stuck_since.elapsed(),
                source: error,
            });
        }
        sleep(self.backoff.pause()).await;
        Ok(())
    }

    fn patience(&self) -> Duration {
        if self.answered_once {
            self.context.retry_for
        } else {
            self.context.connect_timeout.min(self.context.retry_for)
        }
    }

    fn is_out_of_patience(&self) -> bool {
        self.stuck_since.elapsed() >= self.patience()
    }

    /// Asks once. The inner error is the connection's; the outer one ends the call.
    async fn ask(
        &mut self,
        question: &impl Fn(u64) -> ClientMessage,
    ) -> Result<Result<ServerMessage, LinkError>, ClientError> {
        let link = if let Some(link) = &mut self.link {
            link
        } else {
            let screen = &self.context.screen;
            let outage = Outage::new(self.patience().saturating_sub(self.stuck_since.elapsed()));
            let server = self.context.server.clone();
            let connecting = outage.connect(server, self.backoff.clone(), |error| {
                screen.verbose(&format!("connecting: {}", chain(error)));
            });
            self.link.insert(connecting.await?)
        };
        self.last_req += 1;
        Ok(exchange(link, self.last_req, question(self.last_req)).await)
    }
}

/// Sends a request and reads until its answer comes.
async fn exchange(
    link: &mut Link,
    req: u64,
    request: ClientMessage,
) -> Result<ServerMessage, LinkError> {
    send(&mut link.writer, &request).await?;
    let mut pinged = false;
    loop {
        let patience = if pinged {
            DEAD_AFTER.saturating_sub(PING_AFTER)
        } else {
            PING_AFTER
        };
        match timeout(patience, link.reader.next::<ServerMessage>()).await {
            Ok(Ok(Some((ServerMessage::Goodbye(goodbye), _)))) => {
                return Err(LinkError::Goodbye(goodbye));
            }
            Ok(Ok(Some((message, _)))) if answers(&message) == Some(req) => return Ok(message),
            Ok(Ok(Some(_))) => pinged = false,
            Ok(Ok(None)) => return Err(LinkError::Closed),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if pinged => return Err(LinkError::Silent),
            Err(_) => {
                pinged = true;
                send(&mut link.writer, &ClientMessage::Ping(Request { req: 0 })).await?;
            }
        }
    }
}

/// Which request a message answers.
fn answers(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Accepted(answer) => Some(answer.req),
        ServerMessage::SendBody(answer) => Some(answer.req),
        ServerMessage::Rejected(answer) => Some(answer.req),
        ServerMessage::Watching(answer) => Some(answer.req),
        ServerMessage::Page(answer) => Some(answer.req),
        ServerMessage::Job(answer) => Some(answer.req),
        ServerMessage::Status(answer) => Some(answer.req),
        ServerMessage::Image(answer) => Some(answer.req),
        ServerMessage::Cancelled(answer) => Some(answer.req),
        ServerMessage::Deleted(answer) => Some(answer.req),
        ServerMessage::Reanalyzing(answer) => Some(answer.req),
        ServerMessage::Runs(answer) => Some(answer.req),
        ServerMessage::Similar(answer) => Some(answer.req),
        ServerMessage::Pong(answer) => Some(answer.req),
        ServerMessage::Welcome(_) | ServerMessage::Result(_) | ServerMessage::Goodbye(_) => None,
    }
}

/// Whether a refusal only says that the job had ended before.
pub(crate) fn had_ended(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Refused {
            code: ErrorCode::AlreadyFinished,
            ..
        }
    )
}
