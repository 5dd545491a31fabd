//! Requests about single jobs and about the server.

use crate::{
    session::{PROGRAM, Session},
    shared::{Shared, chain, refuse_job},
};
use imgsys_proto::{
    ServerMessage,
    message::{Cancelled, Image, JobRequest, QueueStatus, Request, Status},
};
use imgsys_types::{
    ErrorCode, Failure, FailureReason, JobId, JobRecord, JobResult, Run, Timestamp,
};
use std::sync::atomic::Ordering;
use tracing::{info, warn};

/// How a cancellation went.
enum Cancellation {
    Done,
    Refused(ErrorCode, &'static str),
}

impl Session {
    /// Answers `status`.
    pub(crate) async fn status(&self, request: Request) {
        let shared = &self.shared;
        let (depth, database) =
            tokio::join!(shared.producer.depth(shared.server), shared.reader.ping());
        let (waiting, oldest) = {
            let book = shared.book();
            (book.waiting_len(), book.oldest())
        };
        let oldest = oldest.map(|at| Timestamp::now().since(at));
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.outbox.send(&ServerMessage::Status(Status {
            req: request.req,
            server: shared.server,
            program: PROGRAM.into(),
            uptime_ms: millis(shared.started.elapsed()),
            connections: shared.connections.load(Ordering::Relaxed) as u64,
            spool: shared.store.len() as u64,
            waiting: waiting as u64,
            oldest_ms: oldest.map_or(0, millis),
            queue: depth.ok().map(|depth| QueueStatus {
                queued: depth.waiting,
                running: depth.held,
                dead: depth.dead,
            }),
            database: database.is_ok(),
        }));
    }

    /// Answers `fetch`.
    pub(crate) async fn fetch(&self, request: JobRequest) {
        let JobRequest { req, job } = request;
        let refused = |code, text: &str| {
            let rejected = refuse_job(req, job, code, text);
            self.outbox.send(&ServerMessage::Rejected(rejected));
        };
        let record = match self.reached_record(request).await {
            Ok(Some(record)) => record,
            Ok(None) => return refused(ErrorCode::UnknownJob, "no such job"),
            Err(problem) => return self.unavailable(req, &problem),
        };
        let shared = &self.shared;
        if record.job.server != shared.server {
            let text = format!("server {} keeps this image: ask it", record.job.server);
            return refused(ErrorCode::UnknownJob, &text);
        }
        let path = shared.store.image_path(&record.job.sha256);
        match tokio::fs::metadata(&path).await {
            Ok(file) if file.len() == record.job.size => {
                let head = ServerMessage::Image(Image {
                    req,
                    job,
                    name: record.job.name,
                    sha256: record.job.sha256,
                });
                self.outbox.send_file(&head, path, record.job.size);
            }
            Ok(_) | Err(_) => refused(ErrorCode::UnknownJob, "the image is not kept any more"),
        }
    }

    /// Answers `cancel`.
    pub(crate) async fn cancel(&self, request: JobRequest) {
        let JobRequest { req, job } = request;
        let outcome = match self.reached_record(request).await {
            Ok(Some(record)) => self.shared.cancel(record).await,
            Ok(None) => Cancellation::Refused(ErrorCode::UnknownJob, "no such job"),
            Err(problem) => return self.unavailable(req, &problem),
        };
        self.outbox.send(&match outcome {
            Cancellation::Done => {
                info!(%job, "cancelled");
                ServerMessage::Cancelled(Cancelled { req, job })
            }
            Cancellation::Refused(code, text) => {
                ServerMessage::Rejected(refuse_job(req, job, code, text))
            }
        });
    }
}

impl Shared {
    async fn cancel(&self, record: JobRecord) -> Cancellation {
        use imgsys_queue::Cancelled as Queue;
        const ENDED: Cancellation =
            Cancellation::Refused(ErrorCode::AlreadyFinished, "the job has ended already");
        const LATER: Cancellation =
            Cancellation::Refused(ErrorCode::Unavailable, "it can't be cancelled right now");

        let id = record.job.id;
        let run = match self.store.get(id) {
            Ok(Some(spooled)) if !spooled.has_ended() => spooled.run,
            Ok(_) if record.result.is_some() => return ENDED,
            Ok(_) => Run::submission(record.job),
            Err(problem) => {
                warn!(job = %id, "cancelling: {}", chain(&problem));
                return LATER;
            }
        };
        if run.job.server != self.server {
            let text = "another server has this job: ask it";
            return Cancellation::Refused(ErrorCode::BadRequest, text);
        }
        let detail = "cancelled by the client";
        let failure = Failure::new(FailureReason::Cancelled, detail);
        let ended = JobRecord {
            result: Some(JobResult::failed(run.number, failure)),
            job: run.job.clone(),
        };
        if self.withdraw(&run, &ended).await {
            return Cancellation::Done;
        }
        if self.is_being_sent(id) {
            return LATER;
        }
        match self.producer.cancel(&ended).await {
            Ok(Queue::Cancelled) => {
                self.deliver(ended).await;
                Cancellation::Done
            }
            Ok(Queue::AlreadyEnded(event)) => {
                self.deliver(*event).await;
                ENDED
            }
            // Neither in line nor in Redis: the database knows, or it is to be sent again.
            Ok(Queue::NotOpen) => match self.ask(&[id]).await {
                Ok(()) if self.withdraw(&run, &ended).await => Cancellation::Done,
                Ok(()) if self.has_ended(id) => ENDED,
                Ok(()) => LATER,
                Err(problem) => {
                    warn!(job = %id, "cancelling: {}", chain(&problem));
                    LATER
                }
            },
            Err(problem) => {
                warn!(job = %id, "cancelling: {}", chain(&problem));
                LATER
            }
        }
    }

    /// Ends a job that was not sent to Redis yet; whether there was such a job.
    async fn withdraw(&self, run: &Run, ended: &JobRecord) -> bool {
        if !self.book().withdraw(ended.job.id) {
            return false;
        }
        if let Some(result) = ended.result.clone() {
            self.conclude(run, result).await;
        }
        // Redis has not heard of it: it is announced from here.
        if let Err(problem) = self.producer.announce(std::slice::from_ref(ended)).await {
            warn!(job = %ended.job.id, "announced later: {}", chain(&problem));
        }
        true
    }

    fn is_being_sent(&self, id: JobId) -> bool {
        self.book().sent(id).is_some_and(|sent| !sent.confirmed)
    }

    fn has_ended(&self, id: JobId) -> bool {
        let book = self.book();
        book.has_ended(id) || book.recent(id).is_some() && !book.holds(id)
    }
}
