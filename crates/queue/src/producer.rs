//! What a server does with the queue: sends tasks, and asks and tells what became of its jobs.

mod depth;
mod forget;
mod tell;

pub use depth::Depth;

use crate::{
    QueueError, Task,
    celery_result::{Keep, celery_result},
    events,
    keys::{self, Keys},
    link::Link,
    monitor::{sent, voice::Voice},
    scripts,
    task::ORIGIN,
};
use imgsys_types::{JobId, JobRecord, Priority, ServerId};
use redis::{FromRedisValue, RedisResult, ScriptInvocation, cmd, streams::StreamRangeReply};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tracing::{error, warn};

/// How long Celery's results are kept, unless more is said.
const RESULT_EXPIRES: Duration = Duration::from_secs(600);
/// How many jobs a script or pipeline deals with, so that Redis is never busy with one for long.
const CHUNK: usize = 256;

/// Sends tasks and keeps a server's books in Redis. Clones share one connection.
///
/// Redis may be away at any time: then each call fails within seconds with
/// [`QueueError::Unavailable`], and may be made again, for each does nothing a second time.
#[derive(Debug, Clone)]
pub struct Producer {
    link: Link,
    keep: Keep,
    /// Tells Celery's monitors of tasks that are sent, if they are to know.
    voice: Option<Arc<Voice>>,
}

/// Where Redis says that a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenState {
    /// Not in Redis: in the database by now, or never sent, or lost by Redis.
    Absent,
    /// Sent and not ended.
    Queued,
    /// Ended, and perhaps not in the database yet.
    Ended(Box<JobRecord>),
}

/// What became of an attempt to cancel a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancelled {
    /// It ends as cancelled, and its event is made.
    Cancelled,
    /// Too late: it had ended so.
    AlreadyEnded(Box<JobRecord>),
    /// It is not open in Redis.
    NotOpen,
}

impl Producer {
    /// A producer for the Redis at this URL, which need not be up. Needs a Tokio runtime.
    pub fn new(url: &str) -> Result<Self, QueueError> {
        Ok(Self {
            link: Link::new(url)?,
            keep: Keep::new(RESULT_EXPIRES),
            voice: None,
        })
    }

    /// Has Celery's results of jobs that are cancelled kept so long, to the second; zero for none.
    #[must_use]
    pub fn with_result_expires(mut self, time: Duration) -> Self {
        self.keep = Keep::new(time);
        self
    }

    /// Has Celery's monitors told of each task that is sent (`task-sent`).
    #[must_use]
    pub fn with_sent_events(mut self) -> Self {
        self.voice = Some(Arc::new(Voice::new(&ORIGIN)));
        self
    }

    /// Sends tasks: for each the event `accepted`, the mark in `open`, and the message.
    /// A job that is open already is left as it is, unless that is of an earlier run.
    pub async fn dispatch(&self, tasks: &[Task]) -> Result<(), QueueError> {
        self.send(tasks, true).await
    }

    /// The same without the events, which [`Producer::tell_accepted`] makes for those jobs that have
    /// not ended soon: the event of their end tells the same and more.
    pub async fn dispatch_untold(&self, tasks: &[Task]) -> Result<(), QueueError> {
        self.send(tasks, false).await
    }

    async fn send(&self, tasks: &[Task], told: bool) -> Result<(), QueueError> {
        for (server, tasks) in by_server(tasks, |task| task.job.server) {
            for chunk in tasks.chunks(CHUNK) {
                let earlier = self.earlier_marks(server, chunk).await?;
                let mut call = scripts::DISPATCH.prepare_invoke();
                call.key(self.keys().events()).key(self.keys().open(server));
                self.lists(&mut call);
                for task in chunk {
                    let event = if told {
                        tell::accepted(&task.job)?
                    } else {
                        String::new()
                    };
                    call.arg(task.job.id.to_string())
                        .arg(keys::queued(task.run))
                        .arg(earlier.get(&task.job.id).map_or("", String::as_str))
                        .arg(event)
                        .arg(list_number(task.job.priority))
                        .arg(task.message()?);
                }
                self.script::<()>("take tasks", &call).await?;
                if let Some(voice) = &self.voice {
                    sent::tell(voice, &self.link, chunk).await;
                }
            }
        }
        Ok(())
    }

    /// Puts overdue tasks on the queue once more, if they are still open and have not ended. Says
    /// how many that were.
    pub async fn requeue(&self, tasks: &[Task]) -> Result<usize, QueueError> {
        let mut pushed = 0;
        for (server, tasks) in by_server(tasks, |task| task.job.server) {
            for chunk in tasks.chunks(CHUNK) {
                let mut call = scripts::REQUEUE.key(self.keys().open(server));
                self.lists(&mut call);
                for task in chunk {
                    call.arg(task.job.id.to_string())
                        .arg(keys::queued(task.run))
                        .arg(list_number(task.job.priority))
                        .arg(task.message()?);
                }
                pushed += self.script::<usize>("take tasks again", &call).await?;
            }
        }
        Ok(pushed)
    }

    /// Makes events of results that their clients have been told already, or that came about
    /// before the job was sent. A job whose end has its event is left as it is, and a record
    /// without a result is passed over.
    pub async fn announce(&self, records: &[JobRecord]) -> Result<(), QueueError> {
        for (server, records) in by_server(records, |record| record.job.server) {
            for chunk in records.chunks(CHUNK) {
                let mut call = scripts::ANNOUNCE.key(self.keys().events());
                call.key(self.keys().open(server));
                for record in chunk {
                    let Some(result) = &record.result else {
                        warn!(job = %record.job.id, "no result to announce");
                        continue;
                    };
                    call.arg(record.job.id.to_string())
                        .arg(keys::queued(result.run))
                        .arg(events::kind(record))
                        .arg(events::to_json(record)?);
                }
                self.script::<()>("take events", &call).await?;
            }
        }
        Ok(())
    }

    /// The marks that earlier runs of these jobs have left, where there are any: the run's end is
    /// on its way to the database yet, or Redis came back with an older state.
    async fn earlier_marks(
        &self,
        server: ServerId,
        tasks: &[&Task],
    ) -> Result<HashMap<JobId, String>, QueueError> {
        let later: Vec<&&Task> = tasks.iter().filter(|task| task.run > 0).collect();
        let ids: Vec<JobId> = later.iter().map(|task| task.job.id).collect();
        let marks = self.marks(server, &ids).await?;
        let states = self.read_marks(marks.clone()).await?;
        let mut earlier = HashMap::new();
        for ((task, mark), state) in later.into_iter().zip(marks).zip(states) {
            let run = match (&mark, state) {
                (Some(mark), OpenState::Queued) => keys::queued_run(mark),
                (_, OpenState::Ended(record)) => record.result.map(|result| result.run),
                _ => None,
            };
            if let Some(mark) = mark.filter(|_| run.is_some_and(|run| run < task.run)) {
                earlier.insert(task.job.id, mark);
            }
        }
        Ok(earlier)
    }

    /// Where these runs of a server's jobs stand, in the same order. What is there of an earlier
    /// run says nothing of a later one.
    pub async fn open_states(
        &self,
        server: ServerId,
        runs: &[(JobId, u32)],
    ) -> Result<Vec<OpenState>, QueueError> {
        let mut states = Vec::with_capacity(runs.len());
        for chunk in runs.chunks(CHUNK) {
            let ids: Vec<JobId> = chunk.iter().map(|(job, _)| *job).collect();
            let marks = self.marks(server, &ids).await?;
            let found = self.read_marks(marks.clone()).await?;
            for ((&(_, run), mark), state) in chunk.iter().zip(marks).zip(found) {
                let of = match &state {
                    OpenState::Absent => None,
                    OpenState::Queued => mark.as_deref().and_then(keys::queued_run),
                    OpenState::Ended(record) => record.result.as_ref().map(|result| result.run),
                };
                states.push(if of.is_some_and(|of| of < run) {
                    OpenState::Absent
                } else {
                    state
                });
            }
        }
        Ok(states)
    }

    /// The marks of these jobs, in the same order.
    async fn marks(
        &self,
        server: ServerId,
        jobs: &[JobId],
    ) -> Result<Vec<Option<String>>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("HMGET");
        get.arg(self.keys().open(server));
        for job in jobs {
            get.arg(job.to_string());
        }
        let marks = self.link.query(&get).await;
        marks.map_err(QueueError::unavailable("tell which jobs are open"))
    }

    /// What the marks in `open` say; entries are read from the stream.
    async fn read_marks(&self, marks: Vec<Option<String>>) -> Result<Vec<OpenState>, QueueError> {
        let entries: Vec<&String> = marks
            .iter()
            .flatten()
            .filter(|mark| is_entry(mark))
            .collect();
        let mut pipeline = redis::pipe();
        for entry in &entries {
            pipeline
                .cmd("XRANGE")
                .arg(self.keys().events())
                .arg(entry)
                .arg(entry);
        }
        let replies: Vec<StreamRangeReply> = if entries.is_empty() {
            Vec::new()
        } else {
            self.link
                .pipeline(&pipeline)
                .await
                .map_err(QueueError::unavailable("read how jobs ended"))?
        };
        let mut replies = replies.into_iter();
        let state = |mark: Option<String>| match mark {
            None => OpenState::Absent,
            Some(mark) if is_entry(&mark) => read_end(&mark, replies.next()),
            Some(_) => OpenState::Queued,
        };
        Ok(marks.into_iter().map(state).collect())
    }

    /// Ends a job that has not ended; the record's result says how: as failed, because cancelled.
    /// A worker that has it already finds its own result in vain.
    pub async fn cancel(&self, record: &JobRecord) -> Result<Cancelled, QueueError> {
        let job = &record.job;
        let Some(result) = &record.result else {
            warn!(job = %job.id, "no result to cancel it with");
            return Ok(Cancelled::NotOpen);
        };
        let task_id = keys::task_id(job.id, result.run);
        let mark = keys::queued(result.run);
        let mut call = scripts::CANCEL.key(self.keys().open(job.server));
        call.key(self.keys().events())
            .key(self.keys().task_result(&task_id))
            .arg(job.id.to_string())
            .arg(&mark)
            .arg(events::to_json(record)?)
            .arg(self.keys().results(job.server))
            .arg(self.keep.if_any(&celery_result(&task_id, result)?))
            .arg(self.keep.seconds());
        let state: Option<String> = self.script("cancel a job", &call).await?;
        if state.as_ref() == Some(&mark) {
            return Ok(Cancelled::Cancelled);
        }
        let states = self.read_marks(vec![state]).await?;
        Ok(match states.into_iter().next() {
            Some(OpenState::Ended(ended)) => Cancelled::AlreadyEnded(ended),
            _ => Cancelled::NotOpen,
        })
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), QueueError> {
        self.link
            .query::<String>(&cmd("PING"))
            .await
            .map(drop)
            .map_err(QueueError::unavailable("answer a ping"))
    }

    fn keys(&self) -> &Keys {
        self.link.keys()
    }

    fn lists(&self, call: &mut ScriptInvocation<'_>) {
        for list in self.keys().queue_lists() {
            call.key(list);
        }
    }

    async fn script<T: FromRedisValue>(
        &self,
        doing: &'static str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        let reply: RedisResult<T> = self.link.script(call).await;
        reply.map_err(QueueError::unavailable(doing))
    }
}

/// Which of the lists, counted from 1, tasks of this priority belong on.
fn list_number(priority: Priority) -> usize {
    let steps = keys::PRIORITY_STEPS.iter();
    steps.filter(|step| priority.get() >= **step).count()
}

fn by_server<T>(items: &[T], server: impl Fn(&T) -> ServerId) -> BTreeMap<ServerId, Vec<&T>> {
    let mut servers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for item in items {
        servers.entry(server(item)).or_default().push(item);
    }
    servers
}

/// Whether a mark is an entry's id, such as `1764000000000-0`.
fn is_entry(mark: &str) -> bool {
    mark.starts_with(|c: char| c.is_ascii_digit())
}

/// The end that an entry tells. An entry that is gone has been written to the database.
fn read_end(mark: &str, reply: Option<StreamRangeReply>) -> OpenState {
    let Some(entry) = reply.and_then(|reply| reply.ids.into_iter().next()) else {
        return OpenState::Absent;
    };
    let field = |name: &str| entry.get::<Vec<u8>>(name).unwrap_or_default();
    match events::decode(&field(events::EVENT), &field(events::DATA)) {
        Ok(record) => OpenState::Ended(Box::new(record)),
        Err(bad) => {
            error!("event {mark}, which ended a job, makes no sense: {bad}");
            OpenState::Queued
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_number_is_that_of_the_priority_list() {
        for level in 0..=Priority::MAX {
            let number = list_number(Priority::new(level).unwrap());
            let keys = Keys::new(0, "", "");
            assert_eq!(
                keys.queue_lists()[number - 1],
                keys.priority_list(keys::QUEUE, level)
            );
        }
    }
}
