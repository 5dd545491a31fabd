//! One client.

use super::{Counts, Plan, Until};
use crate::{
    image::{Images, TAIL},
    wire::{Answer, Submits, Wire, without_body},
};
use anyhow::{Context as _, bail};
use std::{
    future::poll_fn,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep_until},
};

/// Submits without an answer, at most: below what a server allows.
const UNANSWERED: u64 = 60;
const BUFFER: usize = 64 << 10;

/// A connection, and what is under way on it.
#[derive(Debug)]
pub(super) struct Link {
    plan: Arc<Plan>,
    counts: Arc<Counts>,
    submits: Submits,
    stream: TcpStream,
    index: u64,
    /// When each image was sent or due; none once its result is there.
    begun: Vec<Option<Instant>>,
    ended: u64,
    accepted: u64,
    times: Vec<Duration>,
    /// The image that is being written, and how much of it is.
    head: Vec<u8>,
    tail: [u8; TAIL],
    written: usize,
    writing: bool,
    /// It is written without its bytes.
    known: bool,
    /// What has come and is not yet a whole frame.
    come: Vec<u8>,
    buffer: Box<[u8]>,
    start: Instant,
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Link {
    /// Connects and says hello.
    pub(super) async fn connect(
        plan: &Arc<Plan>,
        index: usize,
        counts: &Arc<Counts>,
    ) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(&plan.address)
            .await
            .with_context(|| format!("connecting to {}", plan.address))?;
        stream.set_nodelay(true)?;
        greet(&mut stream, plan.wire).await?;
        let now = Instant::now();
        // Unlike those of any run before.
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let mut tail = [0; TAIL];
        tail[..8].copy_from_slice(&run.to_be_bytes()[8..]);
        Ok(Self {
            submits: Submits::new(plan.wire, plan.images.size(), plan.priority, true)?,
            plan: Arc::clone(plan),
            counts: Arc::clone(counts),
            stream,
            index: index as u64,
            begun: Vec::new(),
            ended: 0,
            accepted: 0,
            times: Vec::new(),
            head: Vec::new(),
            tail,
            written: 0,
            writing: false,
            known: false,
            come: Vec::new(),
            buffer: vec![0; BUFFER].into(),
            start: now,
            until: None,
            timer: Box::pin(sleep_until(now.into())),
        })
    }

    /// Sends until the plan's end and awaits all results; how long each took.
    pub(super) async fn run(mut self, start: Instant) -> anyhow::Result<Vec<Duration>> {
        self.start = start;
        if let Until::After(time) = self.plan.until {
            // None if that is never.
            self.until = start.checked_add(time);
        }
        poll_fn(|cx| self.poll(cx)).await?;
        Ok(self.times)
    }

    fn sent(&self) -> u64 {
        self.begun.len() as u64
    }

    fn is_over(&self, now: Instant) -> bool {
        match self.plan.until {
            Until::After(_) => self.until.is_some_and(|until| now >= until),
            Until::Sent(images) => self.sent() >= images,
        }
    }

    /// When the next image is due in an open loop, in which clients take turns.
    fn due(&self) -> Option<Instant> {
        let rate = self.plan.rate?;
        let turn = self.sent() * self.plan.connections as u64 + self.index;
        let nanos = u128::from(turn) * 1_000_000_000 / u128::from(rate);
        Some(self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        loop {
            while self.writing || self.next(cx) {
                match self.write(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            let over = !self.writing && self.ended == self.sent() && self.is_over(Instant::now());
            if over {
                return Poll::Ready(Ok(()));
            }
            match self.read(cx) {
                Poll::Ready(Ok(())) => {}
                done => return done,
            }
        }
    }

    /// Begins with the next image, if it is time for one.
    fn next(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let unanswered = self.sent() - self.accepted.max(self.ended);
        let room = self.sent() - self.ended < self.plan.window as u64 && unanswered < UNANSWERED;
        if !room || self.is_over(now) {
            return false;
        }
        let begin = match self.due() {
            Some(due) if due > now => {
                self.timer.as_mut().reset(due.into());
                if self.timer.as_mut().poll(cx).is_pending() {
                    return false;
                }
                due
            }
            Some(due) => due,
            None => now,
        };
        let number = self.index << 32 | self.sent();
        self.known = self.sent() < self.plan.known;
        self.tail[8..].copy_from_slice(&number.to_be_bytes());
        let (images, head) = (&self.plan.images, &mut self.head);
        if self.known {
            self.submits.write(number, images, Images::KNOWN, head);
            without_body(head);
        } else {
            self.submits.write(number, images, self.tail, head);
        }
        self.begun.push(Some(begin));
        self.written = 0;
        self.writing = true;
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        let body = [self.plan.images.shared(), &self.tail];
        let [shared, tail] = if self.known { [&[][..]; 2] } else { body };
        let whole = self.head.len() + shared.len() + tail.len();
        let parts = [self.head.as_slice(), shared, tail];
        let mut skip = self.written;
        let slices = parts.map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            IoSlice::new(&part[skipped..])
        });
        let first = slices.iter().position(|slice| !slice.is_empty());
        let slices = &slices[first.unwrap_or_default()..];
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error).context("sending an image")),
            Poll::Ready(Ok(len)) => {
                self.written += len;
                self.writing = self.written < whole;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(error).context("reading answers"));
            }
            Poll::Ready(Ok(())) => {}
        }
        let come = buffer.filled();
        if come.is_empty() {
            return Poll::Ready(Err(anyhow::anyhow!("the server closed the connection")));
        }
        self.come.extend_from_slice(come);
        Poll::Ready(self.take())
    }

    /// Takes the answers that are there whole.
    fn take(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut taken = 0;
        while let Some((len, answer)) = self.plan.wire.answer(&self.come[taken..])? {
            taken += len;
            match answer {
                Answer::Welcome => bail!("a second welcome"),
                Answer::Accepted => {
                    self.accepted += 1;
                    self.counts.accepted.fetch_add(1, Relaxed);
                }
                Answer::Ended(number) => {
                    let place = usize::try_from(number & u64::from(u32::MAX))?;
                    let begun = self.begun.get_mut(place).and_then(Option::take);
                    let Some(begun) = begun else {
                        bail!("a result too many for image {place}");
                    };
                    self.times.push(now - begun);
                    self.ended += 1;
                    self.counts.ended.fetch_add(1, Relaxed);
                    if self.plan.wire == Wire::Peer {
                        self.counts.accepted.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        self.come.drain(..taken);
        Ok(())
    }
}

/// Says hello, if the server expects it, and awaits its answer.
async fn greet(stream: &mut TcpStream, wire: Wire) -> anyhow::Result<()> {
    let hello = wire.hello()?;
    if hello.is_empty() {
        return Ok(());
    }
    stream.write_all(&hello).await?;
    let mut come = Vec::new();
    loop {
        if stream.read_buf(&mut come).await? == 0 {
            bail!("the server closed the connection");
        }
        match wire.answer(&come)? {
            None => {}
            Some((len, Answer::Welcome)) if len == come.len() => return Ok(()),
            Some(other) => bail!("no welcome but {other:?}"),
        }
    }
}
