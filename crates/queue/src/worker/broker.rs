//! Our broker, as the crate's worker loop sees it.
//!
//! No call of it ever fails: what can't be done now is tried until it can, for the crate answers
//! errors by dropping deliveries or by ending its loop.

use super::{Shared, app::Params, fetch, finish::Finish};
use crate::{incoming::Incoming, keys};
use async_trait::async_trait;
use celery::{
    broker::{Broker, Delivery, DeliveryError, DeliveryStream},
    error::{BrokerError, ProtocolError},
    protocol::{Message, MessageHeaders, MessageProperties, TryDeserializeMessage},
};
use chrono::{DateTime, Utc};
use futures::Stream;
use serde_json::json;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, warn};

/// Kombu's Redis transport, made safe.
pub(super) struct KombuBroker {
    shared: Arc<Shared>,
    /// Told when the loop begins to consume.
    begun: Mutex<Option<oneshot::Sender<()>>>,
}

impl KombuBroker {
    pub(super) fn new(shared: Arc<Shared>, begun: oneshot::Sender<()>) -> Self {
        Self {
            shared,
            begun: Mutex::new(Some(begun)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.options.name
    }
}

#[async_trait]
impl Broker for KombuBroker {
    fn safe_url(&self) -> String {
        "redis".to_owned()
    }

    async fn consume(
        &self,
        queue: &str,
        _tear_down: Box<dyn Fn(BrokerError) + Send + Sync + 'static>,
    ) -> Result<(String, Box<dyn DeliveryStream>), BrokerError> {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let fetching = fetch::fetch(Arc::clone(&self.shared), sender);
        self.shared.fetching.spawn(fetching);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = begun.take() {
            // Nobody listens if the worker has been stopped already.
            let _ = begun.send(());
        }
        Ok((queue.to_owned(), Box::new(Deliveries(deliveries))))
    }

    async fn cancel(&self, _consumer: &str) -> Result<(), BrokerError> {
        self.shared.stop.cancel();
        Ok(())
    }

    async fn ack(&self, delivery: &dyn Delivery) -> Result<(), BrokerError> {
        delivery.ack().await
    }

    async fn retry(
        &self,
        delivery: &dyn Delivery,
        eta: Option<DateTime<Utc>>,
    ) -> Result<(), BrokerError> {
        delivery.resend(self, eta).await
    }

    /// Tasks are sent by [`crate::Producer`], with their event and mark; the loop sends none.
    async fn send(&self, message: &Message, queue: &str) -> Result<(), BrokerError> {
        error!(
            "not sending {} to {queue}: a worker has nothing to send",
            message.headers.task
        );
        Err(BrokerError::UnknownQueue(queue.to_owned()))
    }

    /// A message that waits for its time holds no permit in the first place.
    async fn increase_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn decrease_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// The link does that by itself.
    async fn reconnect(&self, _timeout: u32) -> Result<(), BrokerError> {
        Ok(())
    }
}

/// Deliveries for the loop. Never ends, because the loop would spin on an ended stream.
struct Deliveries(mpsc::UnboundedReceiver<LeasedDelivery>);

impl DeliveryStream for Deliveries {}

impl Stream for Deliveries {
    type Item = Result<Box<dyn Delivery>, Box<dyn DeliveryError>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(delivery)) => Poll::Ready(Some(Ok(Box::new(delivery)))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// How a message counts while it is held.
#[derive(Debug)]
pub(super) enum Hold {
    /// It takes the place of another, until it is dropped.
    Permit { _permit: OwnedSemaphorePermit },
    /// It waits for its time, and only the number of those is limited.
    Delayed(Arc<AtomicUsize>),
}

impl Hold {
    /// The most messages that wait for their time without a permit.
    const MAX_DELAYED: usize = 4096;

    pub(super) fn new(shared: &Shared, task: &Incoming, permit: OwnedSemaphorePermit) -> Self {
        if task.is_early() && below(&shared.delayed, Self::MAX_DELAYED) {
            Self::Delayed(Arc::clone(&shared.delayed))
        } else {
            Self::Permit { _permit: permit }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Self::Delayed(delayed) = self {
            delayed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Adds one if the number is below the limit.
fn below(number: &AtomicUsize, limit: usize) -> bool {
    number
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < limit).then_some(n + 1)
        })
        .is_ok()
}

/// Messages in the loop's hands: those that came together and may run at once, as one, for each that the
/// loop is given costs it as much as a small image costs to be analysed; or one that waits for its time.
#[derive(Debug)]
pub(super) struct LeasedDelivery {
    shared: Arc<Shared>,
    leases: Vec<String>,
    /// One of the tasks.
    task: Arc<Incoming>,
}

impl LeasedDelivery {
    pub(super) fn new(shared: &Arc<Shared>, leases: Vec<String>, task: Arc<Incoming>) -> Self {
        Self {
            shared: Arc::clone(shared),
            leases,
            task,
        }
    }
}

impl TryDeserializeMessage for LeasedDelivery {
    /// The messages have been read, so the loop learns no more than what it needs.
    fn try_deserialize_message(&self) -> Result<Message, ProtocolError> {
        let params = Params {
            leases: self.leases.clone(),
        };
        Ok(Message {
            properties: MessageProperties {
                correlation_id: self.task.id.clone(),
                content_type: "application/json".to_owned(),
                content_encoding: "utf-8".to_owned(),
                reply_to: None,
            },
            headers: MessageHeaders {
                id: self.task.id.clone(),
                task: keys::TASK.to_owned(),
                eta: self.task.eta,
                retries: Some(self.task.retries),
                // The loop would drop an expired task in silence; we end it.
                expires: None,
                ..MessageHeaders::default()
            },
            raw_body: json!([[], params, {}]).to_string().into_bytes(),
        })
    }
}

#[async_trait]
impl Delivery for LeasedDelivery {
    /// Ours does this for each task by itself; the loop would do it if one broke.
    async fn resend(
        &self,
        _broker: &dyn Broker,
        eta: Option<DateTime<Utc>>,
    ) -> Result<(), BrokerError> {
        for lease in &self.leases {
            let at = eta.unwrap_or_else(Utc::now);
            self.shared.try_again(lease, at).await;
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), BrokerError> {
        self.ack().await
    }

    /// The tasks have been ended or given back by then; what has not, the loop dropped.
    async fn ack(&self) -> Result<(), BrokerError> {
        for lease in &self.leases {
            if let Some(released) = self.shared.leases.end(lease) {
                let job = released.task.arguments.job;
                warn!(%job, "a task was dropped by the worker loop");
                let finish = Finish::acknowledge(released.task.id.clone(), released.tags);
                self.shared.settle(lease, finish).await;
            }
        }
        Ok(())
    }
}
