//! Listening on channels, with a connection that is asked for a sign of life when it is silent.

use crate::link::{Link, timed_out};
use futures::StreamExt;
use redis::{
    Msg, RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use std::{io, time::Duration};
use tokio::time::timeout;

/// How long the connection may be silent before it is asked whether it is still there.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// How long subscribing and the answer to a ping may take.
const ANSWER: Duration = Duration::from_secs(3);

/// A connection that listens.
pub(crate) struct Subscription {
    sink: PubSubSink,
    messages: PubSubStream,
}

impl Subscription {
    /// Listens on these channels from when it returns.
    pub(crate) async fn new(link: &Link, channels: &[String]) -> RedisResult<Self> {
        let (mut sink, messages) = link.pubsub().await?.split();
        in_time(sink.subscribe(channels)).await?;
        link.answered();
        Ok(Self { sink, messages })
    }

    /// The next message, however long that takes. Nothing is lost if this is dropped.
    pub(crate) async fn next(&mut self) -> RedisResult<Msg> {
        loop {
            match timeout(SILENCE, self.messages.next()).await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
                Err(_silent) => {
                    in_time(self.sink.ping::<redis::Value>()).await?;
                }
            }
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(ANSWER, answer)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}
