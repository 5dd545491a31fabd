//! A client of these tests, which fail where it does.

use crate::images::Sample;
use imgsys_faults::{
    client::Connection as Link,
    ledger::{End, Ledger},
    load::{Load, Person, Plan},
};
use imgsys_proto::{ClientMessage, ServerMessage};
use imgsys_types::{JobId, JobResult};
use std::{
    collections::HashMap,
    io,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use tokio::{task::spawn_blocking, time::timeout};

pub(crate) use imgsys_faults::client::submit;

/// The longest that any single answer may take in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An open connection.
pub(crate) struct Connection(Link);

impl Connection {
    /// Connects and says hello.
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        Self::open_as(address, None).await
    }

    /// Connects and says hello, with this secret.
    pub(crate) async fn open_as(address: &str, token: Option<&str>) -> io::Result<Self> {
        Link::open(address, token).await.map(Self)
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> io::Result<ServerMessage> {
        let next = timeout(PATIENCE, self.0.next()).await;
        next.unwrap_or_else(|elapsed| panic!("no answer within {PATIENCE:?}: {elapsed}"))
    }

    /// Sends a message and gives the next one that comes.
    pub(crate) async fn ask(&mut self, message: &ClientMessage) -> ServerMessage {
        self.send(message, &[]).await.unwrap();
        self.next().await.unwrap()
    }
}

impl Deref for Connection {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.0
    }
}

/// Sends the samples and gives every job's result once all are there.
pub(crate) async fn send_all(address: &str, samples: &[Sample]) -> HashMap<JobId, JobResult> {
    let plan = Plan {
        addresses: vec![address.to_owned()],
        people: vec![Person {
            owner: "local".into(),
            token: None,
        }],
        in_flight: samples.len(),
        pace: Duration::from_millis(1),
        seed: 0,
    };
    let ledger = Arc::new(Ledger::default());
    let load = Load::of(&plan, samples, End::Done, &ledger).unwrap();
    let hung = spawn_blocking(move || load.finish(PATIENCE)).await.unwrap();
    assert_eq!((hung, ledger.complaints()), (0, Vec::new()));
    let jobs = ledger.jobs().into_iter();
    jobs.map(|(id, job)| (id, job.answer.unwrap().0)).collect()
}
