//! The one thread that writes the spool: it gathers what is asked of it and makes all of it
//! durable with one commit.
//!
//! Being the only one, it is also the lock that checking an image and inserting its job stand
//! under: nobody else adds, replaces or removes an image file or an entry of the index.

use crate::{
    Accepted, Spooled, StoreError,
    batch::{Batch, Changes},
    carry::Carrier,
    checkpoint::Checkpoints,
    log::{Writer, Written},
    store::Shared,
    upload::Staged,
};
use imgsys_types::{Digest, JobId, JobResult, Run};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The most operations that share a commit: enough for a flush to cost each next to nothing,
/// few enough that the first of them need not wait long for the last.
const MAX_OPS: usize = 1024;
/// The most image bytes of a commit, as the next start may have to read all of them.
const MAX_BYTES: u64 = 256 << 20;
/// How many removals may wait for a commit to ride on.
const MAX_REMOVALS: usize = 16 << 10;
/// How long removals wait for a commit to ride on.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where an answer goes. One that is dropped says [`StoreError::Broken`].
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the committer is asked.
#[derive(Debug)]
pub(crate) enum Op {
    Accept(Box<(Run, Staged)>, Reply<Accepted>),
    Rerun(Box<Spooled>, Reply<Accepted>),
    SetResult(Box<(JobId, JobResult)>, Reply<Option<JobResult>>),
    Remove(Vec<JobId>),
    Flush(Reply<()>),
    /// Whether these images are needed is in question from here on.
    Question(Vec<Digest>, Reply<()>),
    /// These of them go, unless a job was accepted for them meanwhile.
    RemoveImages(Vec<Digest>, Reply<Vec<Digest>>),
}

impl Op {
    fn image_bytes(&self) -> u64 {
        match self {
            Self::Accept(accept, _) if !matches!(accept.1, Staged::Known) => accept.0.job.size,
            _ => 0,
        }
    }
}

/// An answer that waits for the commit.
#[derive(Debug)]
enum Answer {
    Accept(Reply<Accepted>, Result<Accepted, StoreError>),
    SetResult(
        Reply<Option<JobResult>>,
        // Large: an analysis may be in it.
        Box<Result<Option<JobResult>, StoreError>>,
    ),
    Flush(Reply<()>),
    Removed(Reply<Vec<Digest>>, Vec<Digest>),
    /// Nobody waits for it.
    Nobody,
}

impl Answer {
    fn send(self) {
        // Who does not wait for the answer any more does not need it.
        let _ = match self {
            Self::Accept(reply, answer) => reply.send(answer).is_ok(),
            Self::SetResult(reply, answer) => reply.send(*answer).is_ok(),
            Self::Flush(reply) => reply.send(Ok(())).is_ok(),
            Self::Removed(reply, removed) => reply.send(Ok(removed)).is_ok(),
            Self::Nobody => true,
        };
    }
}

enum Wake {
    Ops(Vec<Op>),
    Due,
    Closed,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: Writer,
    carrier: Carrier,
    checkpoints: Checkpoints,
    removals: Vec<JobId>,
    /// When there must be a commit even if nobody asks for one.
    due: Option<Instant>,
    /// Whether the log's last batch relies on images that were flushed with it.
    unproven: bool,
    /// Images that may be removed soon, and whether a job was accepted for them meanwhile.
    in_question: HashMap<Digest, bool>,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        log: Writer,
        carrier: Carrier,
        checkpoints: Checkpoints,
        unproven: bool,
    ) -> Self {
        Self {
            shared,
            log,
            carrier,
            checkpoints,
            removals: Vec::new(),
            due: unproven.then(|| Instant::now() + PATIENCE),
            unproven,
            in_question: HashMap::new(),
        }
    }

    /// Works until all senders are gone.
    pub(crate) fn run(mut self, queue: &Receiver<Op>) {
        // If this thread should panic, nobody must go on waiting for it in hope.
        let guard = BreakOnPanic(Arc::clone(&self.shared));
        loop {
            match self.wake(queue) {
                Wake::Ops(ops) => self.take_up(ops),
                Wake::Due => self.commit(Vec::new(), true),
                Wake::Closed => {
                    if self.due.is_some() {
                        self.commit(Vec::new(), true);
                    }
                    self.close();
                    break;
                }
            }
        }
        drop(guard);
    }

    fn wake(&self, queue: &Receiver<Op>) -> Wake {
        let first = match self.due {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let first = match first {
            Ok(op) => op,
            Err(RecvTimeoutError::Timeout) => return Wake::Due,
            Err(RecvTimeoutError::Disconnected) => return Wake::Closed,
        };
        let mut bytes = first.image_bytes();
        let mut ops = vec![first];
        while ops.len() < MAX_OPS && bytes < MAX_BYTES {
            let Ok(op) = queue.try_recv() else { break };
            bytes += op.image_bytes();
            ops.push(op);
        }
        Wake::Ops(ops)
    }

    /// Sets removals aside and commits if there is anything else.
    fn take_up(&mut self, ops: Vec<Op>) {
        let mut urgent = Vec::with_capacity(ops.len());
        let mut flush = false;
        for op in ops {
            match op {
                Op::Remove(jobs) => self.removals.extend(jobs),
                op => {
                    flush |= matches!(op, Op::Flush(_));
                    urgent.push(op);
                }
            }
        }
        if urgent.is_empty() && self.removals.len() < MAX_REMOVALS {
            self.due.get_or_insert_with(|| Instant::now() + PATIENCE);
        } else {
            self.commit(urgent, flush);
        }
    }

    fn commit(&mut self, ops: Vec<Op>, settle: bool) {
        self.due = None;
        if self.shared.health.is_broken() {
            return;
        }
        let removals = std::mem::take(&mut self.removals);
        match self.try_commit(ops, &removals, settle) {
            Ok(answers) => answers.into_iter().for_each(Answer::send),
            Err(error) => return self.shared.health.set_broken(&error),
        }
        if let Err(error) = self.checkpoints.go_on(self.log.last()) {
            return self.shared.health.set_broken(&error);
        }
        if self.unproven || self.checkpoints.is_running() {
            self.due = Some(Instant::now() + PATIENCE);
        }
    }

    /// An error is one after which nobody knows what is on the disk.
    fn try_commit(
        &mut self,
        ops: Vec<Op>,
        removals: &[JobId],
        settle: bool,
    ) -> Result<Vec<Answer>, StoreError> {
        let mut batch = Batch::begin(&self.shared, &mut self.log, &mut self.in_question);
        // Before the rest, as a job may be accepted again after its removal was asked for, but
        // isn't removed before it was accepted.
        batch.remove(removals);
        let answers = ops.into_iter().map(|op| apply(&mut batch, op));
        let answers: Vec<Answer> = answers.collect::<Result<_, _>>()?;
        if settle && self.unproven {
            batch.settle();
        }
        if !batch.is_empty() {
            self.carrier.go_on(&mut batch);
        }
        if let Some(mut changes) = batch.close() {
            let written = self.log.write()?;
            self.unproven = changes.unproven;
            let came = std::mem::take(&mut changes.written);
            self.publish(written, changes);
            self.remove_images(&answers, &came);
        }
        Ok(answers)
    }

    /// Removes the files of images that were forgotten, but for those that came again in the same
    /// commit. Nothing refers to them any more, and nothing comes in before this is done.
    fn remove_images(&self, answers: &[Answer], came: &HashSet<Digest>) {
        for answer in answers {
            if let Answer::Removed(_, images) = answer {
                let gone = images.iter().filter(|digest| !came.contains(digest));
                gone.for_each(|digest| self.shared.images.remove(digest));
            }
        }
    }

    /// Lets readers see what is on the disk now.
    fn publish(&self, written: Written, changes: Changes) {
        if !changes.images.is_empty() || !changes.spent.is_empty() {
            let mut learnt = self.shared.learnt_mut();
            learnt.extend(changes.images, changes.spent);
        }
        let mut spool = self.shared.spool_mut();
        spool
            .segments
            .entry(written.segment)
            .or_insert(written.file);
        for (job, entry) in changes.jobs {
            match entry {
                Some(entry) => spool.jobs.put(job, &entry),
                None => spool.jobs.remove(job),
            }
        }
    }

    fn close(&mut self) {
        if self.shared.health.is_broken() {
            return;
        }
        if let Err(error) = self.checkpoints.close(self.log.last()) {
            self.shared.health.set_broken(&error);
        }
    }
}

fn apply(batch: &mut Batch<'_>, op: Op) -> Result<Answer, StoreError> {
    Ok(match op {
        Op::Accept(accept, reply) => {
            let (run, image) = *accept;
            Answer::Accept(reply, of_one(batch.accept(&run, image))?)
        }
        Op::Rerun(spooled, reply) => Answer::Accept(reply, of_one(batch.rerun(&spooled))?),
        Op::SetResult(result, reply) => {
            let (job, result) = *result;
            let stands = of_one(batch.set_result(job, result))?;
            Answer::SetResult(reply, Box::new(stands))
        }
        Op::Remove(jobs) => {
            batch.remove(&jobs);
            Answer::Nobody
        }
        Op::Flush(reply) => Answer::Flush(reply),
        Op::Question(images, reply) => {
            batch.question(images);
            Answer::Flush(reply)
        }
        Op::RemoveImages(images, reply) => Answer::Removed(reply, batch.remove_images(images)),
    })
}

/// Tells an error of one operation (the inner) from one of the database, which ends the batch.
fn of_one<T>(done: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match done {
        Err(error @ StoreError::Database { .. }) => Err(error),
        done => Ok(done),
    }
}

struct BreakOnPanic(Arc<Shared>);

impl Drop for BreakOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.health.set_broken(&StoreError::Broken);
        }
    }
}
