//! One connection to the server.

use super::{
    cat,
    server::{State, Trick, record},
};
use imgsys_proto::{
    ClientMessage, FrameReader, ServerMessage, VERSION, encode,
    message::{
        Accepted, Cancelled, Deleted, Goodbye, HistoryRequest, Image, JobAnswer, JobEnd,
        JobRequest, Page, QueueStatus, Rejected, Request, SendBody, Status, Submit, Watching,
        Welcome,
    },
};
use imgsys_types::{
    Cursor, Digest, ErrorCode, JobId, JobRecord, JobState, Owner, ServerId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A client that is being served.
pub struct Connection {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
}

/// Why a connection ends; there is nothing to tell of it.
struct HangUp;

impl<E: std::error::Error> From<E> for HangUp {
    fn from(_: E) -> Self {
        Self
    }
}

impl Connection {
    pub fn new(stream: TcpStream, state: Arc<Mutex<State>>) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: FrameReader::new(reader),
            writer,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub async fn run(mut self) {
        let _ = self.serve().await;
    }

    async fn serve(&mut self) -> Result<(), HangUp> {
        let first = self.reader.next::<ClientMessage>().await?;
        assert!(
            matches!(first, Some((ClientMessage::Hello(_), 0))),
            "{first:?}"
        );
        let trick = self
            .state()
            .trick(|trick| matches!(trick, Trick::Turn(_) | Trick::WrongVersion));
        if let Some(Trick::Turn(code)) = trick {
            return self.leave(code).await;
        }
        let limits = self.state().limits;
        self.say(ServerMessage::Welcome(Welcome {
            version: if trick.is_some() { 99 } else { VERSION },
            program: "test/1".into(),
            server: ServerId::from_bytes([5; 16]),
            owner: Owner::local(),
            limits,
        }))
        .await?;
        while let Some((message, body)) = self.reader.next::<ClientMessage>().await? {
            match message {
                ClientMessage::Submit(submit) => self.submit(submit, body).await?,
                ClientMessage::Watch(watch) => self.watch(watch.req, watch.jobs).await?,
                ClientMessage::Fetch(request) => self.fetch(request.req, request.job).await?,
                ClientMessage::Hello(_) => panic!("hello twice"),
                other => self.answer(other).await?,
            }
        }
        Ok(())
    }

    async fn say(&mut self, message: ServerMessage) -> Result<(), HangUp> {
        self.say_with(message, &[]).await
    }

    async fn say_with(&mut self, message: ServerMessage, body: &[u8]) -> Result<(), HangUp> {
        let mut frame = Vec::new();
        encode(&message, body.len() as u64, &mut frame)?;
        frame.extend_from_slice(body);
        self.writer.write_all(&frame).await?;
        Ok(())
    }

    async fn leave(&mut self, code: ErrorCode) -> Result<(), HangUp> {
        let text = "bye\x1b[2J".into();
        self.say(ServerMessage::Goodbye(Goodbye { code, text }))
            .await?;
        Err(HangUp)
    }

    async fn reject(
        &mut self,
        req: u64,
        code: ErrorCode,
        after: Option<u64>,
    ) -> Result<(), HangUp> {
        self.say(ServerMessage::Rejected(Rejected {
            req,
            job: None,
            code,
            text: "no\x1b[2J".into(),
            retry_after_ms: after,
        }))
        .await
    }

    async fn submit(&mut self, submit: Submit, body: u32) -> Result<(), HangUp> {
        let Submit {
            req,
            job,
            sha256,
            size,
            ..
        } = submit;
        self.state().submits.push((job, body > 0));
        if body > 0
            && self
                .state()
                .trick(|trick| trick == Trick::CutInBody)
                .is_some()
        {
            self.reader.body_chunk().await?;
            return Err(HangUp);
        }
        let mut image = Vec::new();
        while let Some(chunk) = self.reader.body_chunk().await? {
            image.extend_from_slice(&chunk);
        }
        let trick = self
            .state()
            .trick(|trick| matches!(trick, Trick::Refuse(..) | Trick::Leave(_)));
        match trick {
            Some(Trick::Refuse(code, after)) => return self.reject(req, code, after).await,
            Some(Trick::Leave(code)) => return self.leave(code).await,
            _ => {}
        }
        let duplicate = self.state().images.contains_key(&sha256);
        if body == 0 && !duplicate {
            return self
                .say(ServerMessage::SendBody(SendBody { req, job }))
                .await;
        }
        if body > 0 {
            assert_eq!(u64::from(body), size);
            let digest = Digest::from_bytes(Sha256::digest(&image).into());
            if digest != sha256 {
                return self.reject(req, ErrorCode::DigestMismatch, None).await;
            }
            self.state().bodies.push(digest);
            self.state().images.insert(digest, image);
        }
        if self.state().find(job).is_none() {
            self.state()
                .jobs
                .push(record(job, &submit.name, size, sha256));
        }
        let cut = self
            .state()
            .trick(|trick| trick == Trick::CutBeforeAccepted);
        if cut.is_some() {
            return Err(HangUp);
        }
        self.say(ServerMessage::Accepted(Accepted {
            req,
            job,
            duplicate,
            submitted_at: Timestamp::now(),
        }))
        .await?;
        if submit.watch {
            self.finish(job).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, job: JobId) -> Result<(), HangUp> {
        let trick = self
            .state()
            .trick(|trick| matches!(trick, Trick::CutBeforeResult | Trick::Die | Trick::Forget));
        if trick == Some(Trick::Die) {
            self.state().down = true;
        }
        if trick == Some(Trick::Forget) {
            self.state().jobs.clear();
            self.state().images.clear();
        }
        if trick.is_some() {
            return Err(HangUp);
        }
        if self.state().silent {
            return Ok(());
        }
        let end = self.state().find(job).map(|record| {
            let result = record.result.get_or_insert_with(cat).clone();
            let sha256 = record.job.sha256;
            JobEnd {
                job,
                sha256,
                result,
            }
        });
        match end {
            Some(end) => self.say(ServerMessage::Result(end)).await,
            None => Ok(()),
        }
    }

    async fn watch(&mut self, req: u64, jobs: Vec<JobId>) -> Result<(), HangUp> {
        self.state().watches += 1;
        let (known, unknown): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|job| self.state().find(*job).is_some());
        self.say(ServerMessage::Watching(Watching { req, unknown }))
            .await?;
        for job in known {
            self.finish(job).await?;
        }
        Ok(())
    }

    async fn fetch(&mut self, req: u64, job: JobId) -> Result<(), HangUp> {
        let found = self.state().find(job).map(|record| record.job.clone());
        let Some(found) = found else {
            return self.reject(req, ErrorCode::UnknownJob, None).await;
        };
        let image = self.state().images[&found.sha256].clone();
        let message = ServerMessage::Image(Image {
            req,
            job,
            name: found.name,
            sha256: found.sha256,
        });
        if self
            .state()
            .trick(|trick| trick == Trick::CutInImage)
            .is_some()
        {
            let mut frame = Vec::new();
            encode(&message, image.len() as u64, &mut frame)?;
            frame.extend_from_slice(&image[..image.len() / 2]);
            self.writer.write_all(&frame).await?;
            return Err(HangUp);
        }
        self.say_with(message, &image).await
    }

    async fn answer(&mut self, message: ClientMessage) -> Result<(), HangUp> {
        let trick = self
            .state()
            .trick(|trick| matches!(trick, Trick::Refuse(..)));
        let answer = match (&message, trick) {
            (ClientMessage::Ping(request), _) => ServerMessage::Pong(*request),
            (
                ClientMessage::History(HistoryRequest { req, .. })
                | ClientMessage::Status(Request { req }),
                Some(Trick::Refuse(code, after)),
            ) => return self.reject(*req, code, after).await,
            (ClientMessage::History(request), _) => {
                let state = self.state();
                let jobs: Vec<JobRecord> = state
                    .jobs
                    .iter()
                    .rev()
                    .filter(|record| request.filter.matches(record))
                    .filter(|record| request.after.is_none_or(|after| Cursor::of(record) < after))
                    .take(request.limit.min(state.limits.max_page) as usize + 1)
                    .cloned()
                    .collect();
                let size = request.limit.min(state.limits.max_page) as usize;
                ServerMessage::Page(Page {
                    req: request.req,
                    next: (jobs.len() > size).then(|| Cursor::of(&jobs[size - 1])),
                    jobs: jobs.into_iter().take(size).collect(),
                    partial: state.partial,
                })
            }
            (ClientMessage::Show(request), _) => {
                let found = self.state().find(request.job).cloned();
                match found {
                    Some(record) => ServerMessage::Job(JobAnswer {
                        req: request.req,
                        record,
                    }),
                    None => return self.reject(request.req, ErrorCode::UnknownJob, None).await,
                }
            }
            (ClientMessage::Cancel(request), _) => {
                let state = self.state().find(request.job).map(|record| record.state());
                match state {
                    Some(JobState::Queued) => {
                        self.state().cancelled.insert(request.job);
                        ServerMessage::Cancelled(Cancelled {
                            req: request.req,
                            job: request.job,
                        })
                    }
                    Some(_) => {
                        return self
                            .reject(request.req, ErrorCode::AlreadyFinished, None)
                            .await;
                    }
                    None => return self.reject(request.req, ErrorCode::UnknownJob, None).await,
                }
            }
            (ClientMessage::Delete(JobRequest { req, job }), _) => {
                let (req, job) = (*req, *job);
                let state = self.state().find(job).map(|record| record.state());
                match state {
                    Some(JobState::Queued) => {
                        return self.reject(req, ErrorCode::NotFinished, None).await;
                    }
                    Some(_) => {
                        self.state().jobs.retain(|record| record.job.id != job);
                        ServerMessage::Deleted(Deleted { req, job })
                    }
                    None => return self.reject(req, ErrorCode::UnknownJob, None).await,
                }
            }
            (ClientMessage::Status(request), _) => ServerMessage::Status(Status {
                req: request.req,
                server: ServerId::from_bytes([5; 16]),
                program: "test/1".into(),
                uptime_ms: 61_000,
                connections: 1,
                spool: 3,
                waiting: 2,
                oldest_ms: 1500,
                queue: Some(QueueStatus {
                    queued: 4,
                    running: 1,
                    dead: 0,
                }),
                database: false,
            }),
            (other, _) => panic!("{other:?}"),
        };
        self.say(answer).await
    }
}
