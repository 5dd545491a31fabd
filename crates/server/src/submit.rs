//! An image on its way in.

use crate::{
    quota::{Reserved, millis_up},
    session::{InFlight, Session},
    shared::{chain, refuse_job},
};
use bytes::Bytes;
use imgsys_proto::{
    FrameReader, ReadError, ServerMessage,
    message::{Accepted, JobEnd, SendBody, Submit},
};
use imgsys_store::{self as store, Image, SMALL_IMAGE, Spooled, StoreError, Upload};
use imgsys_types::{ErrorCode, Job, Run, Timestamp, clean_name};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncRead, sync::OwnedSemaphorePermit};
use tracing::{debug, error};

/// The body of a refused submit that is read and thrown away; a larger one ends the connection.
pub(crate) const DISCARD_MAX: u32 = 1 << 20;

/// No body takes longer, whatever its size and rate: a day, in seconds.
const LONGEST_BODY: u64 = 86_400;

/// What came with a submit.
pub(crate) enum Body {
    None,
    Small(Bytes),
    Streamed(Upload),
}

/// How long a body may take: a while to get going, then the time that its bytes take at the
/// slowest rate allowed. A sender of a byte now and then is not silent, but holds memory.
struct Pace {
    over: Instant,
}

impl Pace {
    const START: Duration = Duration::from_secs(10);

    fn new(bytes: u64, rate: u64) -> Self {
        let longest = Duration::from_secs(bytes.div_ceil(rate.max(1)).min(LONGEST_BODY));
        Self {
            over: Instant::now() + Self::START + longest,
        }
    }

    /// What is left of the time.
    fn rest(&self) -> Duration {
        self.over.saturating_duration_since(Instant::now())
    }
}

/// Why a submit is refused.
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
    /// When to come back, if that is known better than for others with this code.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            retry_after: None,
        }
    }
}

/// What a submit holds on to until just before it is answered: whoever has the answer may count on
/// its place.
pub(crate) struct Held {
    pub(crate) quota: Reserved,
    pub(crate) in_flight: InFlight,
    /// Memory for the bytes of a small image.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

impl Session {
    /// What can be said against a submit before its body is read.
    pub(crate) fn check(&self, submit: &Submit, body: u32) -> Result<Reserved, Refusal> {
        let limits = &self.shared.config.limits;
        let most = limits.max_image.get();
        let refuse = |code, text: String| Err(Refusal::new(code, text));
        if submit.size == 0 {
            return refuse(ErrorCode::EmptyImage, "the image has no bytes".into());
        }
        if submit.size > most {
            let text = format!(
                "the image has {} bytes; at most {most} are taken",
                submit.size
            );
            return refuse(ErrorCode::ImageTooLarge, text);
        }
        if body != 0 && u64::from(body) != submit.size {
            let text = format!(
                "the body has {body} bytes, not the {} announced",
                submit.size
            );
            return refuse(ErrorCode::SizeMismatch, text);
        }
        if self.in_flight() >= limits.max_in_flight as usize {
            let text = format!("{} submits are under way already", limits.max_in_flight);
            return refuse(ErrorCode::TooManyInFlight, text);
        }
        if submit.watch && self.outbox.owed() >= limits.max_watched as usize {
            let text = format!("{} jobs are watched already", limits.max_watched);
            return refuse(ErrorCode::TooManyWatched, text);
        }
        if self.shutdown.is_cancelled() {
            return refuse(ErrorCode::ShuttingDown, "connect again".into());
        }
        let shared = &self.shared;
        let unfinished = shared.book().unfinished_of(&self.owner);
        let quotas = &shared.quotas;
        quotas.reserve(&self.owner, limits, unfinished, u64::from(body))
    }

    /// Reads a submit's body: small ones into memory, within what all connections may use
    /// together, to be written by the store's own thread, many in one flush; large ones into a file
    /// as they come.
    pub(crate) async fn receive<R: AsyncRead + Unpin>(
        &self,
        frames: &mut FrameReader<R>,
        submit: &Submit,
    ) -> Result<Result<(Body, Option<OwnedSemaphorePermit>), Refusal>, ReadError> {
        let shared = &self.shared;
        if frames.body_left() == 0 {
            return Ok(Ok((Body::None, None)));
        }
        let limits = &shared.config.limits;
        let pace = Pace::new(submit.size, limits.min_rate.get());
        if submit.size <= SMALL_IMAGE as u64 {
            let kib = frames.body_left().div_ceil(1024);
            let permit = Arc::clone(&shared.small_images).acquire_many_owned(kib);
            let Ok(permit) = permit.await else {
                return Ok(Err(Refusal::new(ErrorCode::ShuttingDown, "connect again")));
            };
            let bytes = self.in_time(pace.rest(), frames.body()).await?;
            return Ok(Ok((Body::Small(bytes), Some(permit))));
        }
        let mut upload = match shared.store.upload() {
            Ok(upload) => upload,
            Err(problem) => return Ok(Err(refusal(&problem))),
        };
        while frames.body_left() > 0 {
            let reading = frames.body_into(upload.room());
            let count = self.in_time(pace.rest(), reading).await?;
            if let Err(problem) = upload.filled(count).await {
                return Ok(Err(refusal(&problem)));
            }
        }
        Ok(Ok((Body::Streamed(upload), None)))
    }

    /// Has the store take the job, and answers.
    pub(crate) async fn accept(self: Arc<Self>, submit: Submit, body: Body, held: Held) {
        // The memory is free when this is done.
        let Held {
            quota,
            in_flight,
            memory: _memory,
        } = held;
        let begun = Instant::now();
        let (req, id) = (submit.req, submit.job);
        let shared = &self.shared;
        // A job that ended a short while ago is not in the spool any more, but still the same job.
        let recent = shared.book().recent(id).cloned();
        if let Some(recent) = recent {
            drop((quota, in_flight));
            if recent.owner != self.owner || recent.sha256 != submit.sha256 {
                self.refuse(req, &submit, Refusal::new(ErrorCode::Conflict, CONFLICT));
                return;
            }
            self.answer_accepted(&submit, true, recent.submitted_at);
            if submit.watch {
                self.outbox.look_up(id);
            }
            return;
        }
        let job = Job {
            id,
            owner: self.owner.clone(),
            sha256: submit.sha256,
            name: clean_name(&submit.name),
            size: submit.size,
            priority: submit.priority,
            submitted_at: Timestamp::now(),
            server: shared.server,
        };
        let image = match body {
            Body::None => Image::Known,
            Body::Small(bytes) => Image::Bytes(bytes),
            Body::Streamed(upload) => Image::Upload(upload),
        };
        let accepted = shared.store.accept(job.clone(), image).await;
        drop(in_flight);
        // What is no new job gives its quota back before it is answered.
        let quota = matches!(accepted, Ok(store::Accepted::New { .. })).then_some(quota);
        match accepted {
            Ok(store::Accepted::New {
                duplicate,
                checksum,
            }) => {
                shared.metrics.note_accepted(&job, duplicate, begun);
                let run = Run {
                    checksum,
                    ..Run::submission(job)
                };
                self.begin(&submit, run, duplicate, quota);
            }
            Ok(store::Accepted::Same(spooled)) => self.resume(&submit, &spooled),
            Ok(store::Accepted::Conflict) => {
                self.refuse(req, &submit, Refusal::new(ErrorCode::Conflict, CONFLICT));
            }
            Ok(store::Accepted::NotKnown) => {
                let answer = SendBody { req, job: id };
                self.outbox.send(&ServerMessage::SendBody(answer));
            }
            Err(problem) => {
                if !matches!(
                    problem,
                    StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. }
                ) {
                    error!(job = %id, "accepting: {}", chain(&problem));
                }
                self.refuse(req, &submit, refusal(&problem));
            }
        }
    }

    /// A new job is on the disk.
    fn begin(
        self: &Arc<Self>,
        submit: &Submit,
        run: Run,
        duplicate: bool,
        quota: Option<Reserved>,
    ) {
        let job = &run.job;
        debug!(job = %job.id, owner = %job.owner, bytes = job.size, duplicate, "accepted");
        let shared = &self.shared;
        // Held over all of it: who has the answer finds the job in the book.
        let mut book = shared.book();
        // Told before it is watched and dispatched, so that no result can overtake it.
        self.answer_accepted(submit, duplicate, job.submitted_at);
        if let Some(quota) = quota {
            quota.spend();
        }
        if submit.watch {
            self.outbox.owe(job.id);
            book.watch(job.id, &self.outbox);
        }
        book.add(Box::new(run), Timestamp::now());
        drop(book);
        shared.dispatch.notify_one();
        shared.reconcile.notify_one();
    }

    /// The same job again, which is still in the spool.
    fn resume(self: &Arc<Self>, submit: &Submit, spooled: &Spooled) {
        let job = &spooled.run.job;
        self.answer_accepted(submit, true, job.submitted_at);
        if !submit.watch {
            return;
        }
        if let Some(result) = spooled.end() {
            self.outbox.end(&JobEnd {
                job: job.id,
                sha256: job.sha256,
                result: result.clone(),
            });
        } else {
            self.shared.watch_spooled(job.id, &self.outbox);
        }
    }

    fn answer_accepted(&self, submit: &Submit, duplicate: bool, submitted_at: Timestamp) {
        self.outbox.send(&ServerMessage::Accepted(Accepted {
            req: submit.req,
            job: submit.job,
            duplicate,
            submitted_at,
        }));
    }

    /// Refuses a submit.
    pub(crate) fn refuse(&self, req: u64, submit: &Submit, refusal: Refusal) {
        let Refusal {
            code,
            text,
            retry_after,
        } = refusal;
        debug!(job = %submit.job, owner = %self.owner, %code, "refused: {text}");
        self.shared.metrics.note_answered(Some(code), submit.size);
        let mut rejected = refuse_job(req, submit.job, code, text);
        if let Some(after) = retry_after {
            rejected.retry_after_ms = Some(millis_up(after));
        }
        self.outbox.send(&ServerMessage::Rejected(rejected));
    }
}

const CONFLICT: &str = "the job's id belongs to another image or owner: submit it under a new id";

/// What a client is told of the store's troubles: never more than it needs.
pub(crate) fn refusal(problem: &StoreError) -> Refusal {
    let (code, text) = match problem {
        StoreError::DigestMismatch { .. } => (
            ErrorCode::DigestMismatch,
            "the bytes do not have the SHA-256 that was announced",
        ),
        StoreError::SizeMismatch { .. } => (
            ErrorCode::SizeMismatch,
            "the bytes are not as many as were announced",
        ),
        StoreError::Full { .. } => (ErrorCode::DiskFull, "the server's disk is full: try later"),
        _ => (
            ErrorCode::Unavailable,
            "the server can't write to its disk: try later",
        ),
    };
    Refusal::new(code, text)
}
