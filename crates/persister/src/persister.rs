//! The loop: read a batch, write it, settle it.

use crate::{
    metrics::{POSTGRES, PersisterMetrics, REDIS},
    outage::{Outage, Shutdown, chain},
    settings::Settings,
    waiting::Waiting,
};
use anyhow::Context;
use imgsys_history::{WriteError, WriteReport, Writer, connect, migrate};
use imgsys_queue::events::{Entry, EventStream, StreamError};
use imgsys_types::JobRecord;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// How long a read waits for the first event: the longest that the end has to wait for.
const BLOCK: Duration = Duration::from_millis(500);
/// How many events at once, in a batch of a thousand, count as many: then commits are made fewer.
const MANY: usize = 40;
/// How many times longer a transaction waits for more events when many come: a commit costs about the
/// same for a few as for a thousand.
const LONGER: u32 = 4;
/// How long an accepted event waits for its job's end when many come.
const WAIT: Duration = Duration::from_millis(500);
/// How often the stream is trimmed and dead consumers are deleted.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// After how long a consumer that holds nothing counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(3600);

/// A persister.
#[derive(Debug)]
pub(crate) struct Persister {
    settings: Settings,
    metrics: PersisterMetrics,
    shutdown: Shutdown,
    stream: EventStream,
    redis: Outage,
    writer: Option<Writer>,
    postgres: Outage,
    waiting: Waiting,
    /// Whether many events came last time.
    busy: bool,
    ready: bool,
    claim_at: Instant,
    tidy_at: Instant,
}

/// The end was asked for before something was done.
#[derive(Debug)]
struct Stopped;

/// What became of a batch.
#[derive(Debug, Default)]
struct Written<'a> {
    /// In the database.
    rows: Vec<&'a Entry>,
    /// Of another owner or digest than the job has, or one of two results of a run, of which the
    /// other stands.
    void: Vec<&'a Entry>,
    /// Not to be written, and why.
    bad: Vec<(&'a Entry, String)>,
}

impl Persister {
    /// Must be called on a runtime.
    pub(crate) fn new(
        settings: Settings,
        metrics: PersisterMetrics,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        // No two processes may have one name, and a restarted one is another.
        let consumer = format!("persister-{}", Uuid::new_v4().simple());
        let now = Instant::now();
        Ok(Self {
            stream: EventStream::new(&settings.redis_url, consumer)?,
            shutdown: Shutdown::new(shutdown),
            redis: Outage::none("Redis", REDIS, metrics.clone()),
            writer: None,
            postgres: Outage::none("PostgreSQL", POSTGRES, metrics.clone()),
            metrics,
            // Far less than after what others take it for dead.
            waiting: Waiting::new(WAIT.min(settings.claim_after / 4)),
            busy: false,
            ready: false,
            claim_at: now,
            tidy_at: now,
            settings,
        })
    }

    /// Works until the end is asked for.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        if self.settings.migrate && self.migrate()?.is_err() {
            return Ok(());
        }
        // Events are taken only when they can be written, unless that changes meanwhile.
        while self.writer.is_none() {
            match self.connect() {
                Ok(writer) => self.writer = Some(writer),
                Err(error @ WriteError::Url(_)) => return Err(error.into()),
                Err(error) => {
                    if self.wait_for_postgres(kind(&error), &error).is_err() {
                        return Ok(());
                    }
                }
            }
        }
        self.postgres.is_over();
        self.tell_ready();
        let mut total = 0;
        while !self.shutdown.is_asked_for() {
            match self.next_batch() {
                Ok(entries) => {
                    self.redis.is_over();
                    total += entries.len();
                    if self.persist(&entries).is_err() {
                        warn!("{} events stay unwritten for now", entries.len());
                        break;
                    }
                }
                Err(error) => {
                    let pause = self.redis.goes_on("away", &error);
                    // No end comes now: what waits for one waits no longer.
                    total += self.persist_waiting();
                    self.shutdown.pause(pause);
                }
            }
        }
        total += self.persist_waiting();
        info!("persister ends after {total} events");
        Ok(())
    }

    /// Brings the schema up to date, as soon as PostgreSQL is there.
    fn migrate(&mut self) -> anyhow::Result<Result<(), Stopped>> {
        loop {
            let outcome = connect(&self.settings.database_url)
                .map_err(Into::into)
                .and_then(|mut client| migrate(&mut client));
            match outcome {
                Ok(done) => {
                    for name in done {
                        info!("applied migration {name}");
                    }
                    return Ok(Ok(()));
                }
                Err(error) if error.is_transient() => {
                    if self.wait_for_postgres("away", &error).is_err() {
                        return Ok(Err(Stopped));
                    }
                }
                Err(error) => return Err(error).context("bringing the schema up to date"),
            }
        }
    }

    /// Whoever started this process is told that it works, or that it waits: both are its work.
    fn tell_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            imgsys_service::ready(&[]);
        }
    }

    fn wait_for_postgres(
        &mut self,
        kind: &'static str,
        error: &(dyn std::error::Error + 'static),
    ) -> Result<(), Stopped> {
        let pause = self.postgres.goes_on(kind, error);
        self.tell_ready();
        self.pause(pause)
    }

    fn pause(&self, time: Duration) -> Result<(), Stopped> {
        if self.shutdown.pause(time) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }

    /// The next events: those that a dead persister has left, or new ones. May be none.
    fn next_batch(&mut self) -> Result<Vec<Entry>, StreamError> {
        let batch = self.settings.batch;
        let now = Instant::now();
        if now >= self.tidy_at {
            self.tidy_at = now + TIDY_EVERY;
            self.tidy()?;
        }
        if now >= self.claim_at {
            let entries = self.stream.claim(self.settings.claim_after, batch)?;
            if !entries.is_empty() {
                self.metrics.taken_over.inc_by(entries.len() as u64);
                info!(
                    "took over {} events that were left unwritten",
                    entries.len()
                );
                return Ok(self.waiting.all(entries));
            }
            self.claim_at = now + self.settings.claim_after / 3;
        }
        let block = self.waiting.due_in(now).map_or(BLOCK, |due| due.min(BLOCK));
        let mut entries = self.stream.read(batch, block)?;
        if !entries.is_empty() && entries.len() < batch {
            let longer = if self.busy { LONGER } else { 1 };
            self.shutdown.pause(self.settings.linger * longer);
            match self.stream.read(batch - entries.len(), Duration::ZERO) {
                Ok(more) => entries.extend(more),
                // What has come is written all the same; the next call meets the same trouble.
                Err(error) => debug!("filling a batch: {}", chain(&error)),
            }
        }
        self.busy = entries.len() >= MANY.min(batch);
        if self.busy {
            Ok(self.waiting.exchange(entries, Instant::now()))
        } else {
            // Few cost little, and are in the history at once.
            Ok(self.waiting.all(entries))
        }
    }

    fn tidy(&mut self) -> Result<(), StreamError> {
        let trimmed = self.stream.trim()?;
        let buried = self
            .stream
            .bury(DEAD_AFTER.max(self.settings.claim_after * 10))?;
        debug!("trimmed {trimmed} events, deleted {buried} dead consumers");
        Ok(())
    }

    /// Writes the accepted events that wait for their end, and says how many; if that can't be done
    /// before the end, another persister takes them over.
    fn persist_waiting(&mut self) -> usize {
        let waited = self.waiting.all(Vec::new());
        if !waited.is_empty() && self.persist(&waited).is_err() {
            warn!("{} accepted events stay unwritten for now", waited.len());
        }
        waited.len()
    }

    /// Writes the events, then settles them.
    fn persist(&mut self, entries: &[Entry]) -> Result<(), Stopped> {
        let mut written = Written::default();
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            match &entry.event {
                Ok(record) => events.push((entry, record)),
                Err(bad) => written.bad.push((entry, bad.reason.clone())),
            }
        }
        // What is committed is settled even if the end was asked for meanwhile.
        let all = self.write(&events, &mut written);
        while let Err(error) = self.stream.settle(&written.rows, &written.void) {
            let pause = self.redis.goes_on("away", &error);
            self.pause(pause)?;
        }
        self.redis.is_over();
        self.metrics
            .note_batch(&written.rows, written.void.len(), written.bad.len());
        for (entry, reason) in &written.bad {
            let job = job_of(entry);
            error!(job, "event {} can't be written: {reason}", entry.id);
            let end = self.end_instead(entry)?;
            if let Err(error) = self.stream.set_aside(entry, reason) {
                // It is still this consumer's, and will be claimed as if it had died.
                warn!(
                    job,
                    "event {} stays where it is: {}",
                    entry.id,
                    chain(&error)
                );
                continue;
            }
            // What fails here is found in the database by the job's server.
            let settled = match &end {
                Some((end, true)) => self.stream.settle(&[end], &[]),
                Some((end, false)) => self.stream.settle(&[], &[end]),
                None => Ok(()),
            };
            if let Err(error) = settled {
                warn!(job, "settling event {}: {}", entry.id, chain(&error));
            }
        }
        all
    }

    /// Ends the job of an event that can't be written, as failed, so that nobody waits for it for
    /// ever; the entry as if it had said so, and whether that stands. `None` if the event ended none,
    /// or even this can't be written.
    fn end_instead(&mut self, entry: &Entry) -> Result<Option<(Entry, bool)>, Stopped> {
        let Some(record) = entry.end_instead() else {
            return Ok(None);
        };
        let end = Entry {
            id: entry.id.clone(),
            event: Ok(record.clone()),
            told: false,
        };
        let written = self.commit(&[(&end, &record)])?.ok();
        let counts = |report: WriteReport| {
            report
                .conflicts
                .is_empty()
                .then_some(report.superseded.is_empty())
        };
        Ok(written.and_then(counts).map(|stands| (end, stands)))
    }

    /// Writes these events in one transaction; if PostgreSQL refuses one of them, in two, and so
    /// on, until it is found.
    fn write<'a>(
        &mut self,
        events: &[(&'a Entry, &'a JobRecord)],
        written: &mut Written<'a>,
    ) -> Result<(), Stopped> {
        match self.commit(events)? {
            Ok(report) => {
                for (place, (entry, _)) in events.iter().enumerate() {
                    let job = job_of(entry);
                    if report.conflicts.binary_search(&place).is_ok() {
                        warn!(job, "event {}: its job is another's", entry.id);
                        written.void.push(entry);
                    } else if report.superseded.binary_search(&place).is_ok() {
                        // The server is not told that it is written; it asks, and sees what is.
                        warn!(job, "event {}: its run has another result", entry.id);
                        written.void.push(entry);
                    } else {
                        written.rows.push(entry);
                    }
                }
                Ok(())
            }
            Err(refused) => {
                if let [(entry, _)] = events {
                    written.bad.push((entry, chain(&refused)));
                    return Ok(());
                }
                let (first, second) = events.split_at(events.len() / 2);
                self.write(first, written)?;
                self.write(second, written)
            }
        }
    }

    /// Commits a batch, however long PostgreSQL is away. The inner error is a refusal.
    fn commit(
        &mut self,
        events: &[(&Entry, &JobRecord)],
    ) -> Result<Result<WriteReport, WriteError>, Stopped> {
        let records: Vec<&JobRecord> = events.iter().map(|(_, record)| *record).collect();
        let told = (0..events.len()).filter(|&place| events[place].0.told);
        let told: Vec<usize> = told.collect();
        loop {
            let begun = Instant::now();
            match self.attempt(&records, &told) {
                Ok(report) => {
                    self.metrics.note_commit(records.len(), begun);
                    self.postgres.is_over();
                    return Ok(Ok(report));
                }
                Err(error @ WriteError::Rejected(_)) => return Ok(Err(error)),
                Err(error) => {
                    self.writer = None;
                    self.wait_for_postgres(kind(&error), &error)?;
                }
            }
        }
    }

    fn connect(&self) -> Result<Writer, WriteError> {
        let Settings {
            database_url,
            write_timeout,
            ..
        } = &self.settings;
        Writer::connect_within(database_url, *write_timeout)
    }

    fn attempt(
        &mut self,
        records: &[&JobRecord],
        told: &[usize],
    ) -> Result<WriteReport, WriteError> {
        if records.is_empty() {
            return Ok(WriteReport::default());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.connect()?,
        };
        let outcome = writer.write_told(records, told);
        self.writer = Some(writer);
        outcome
    }
}

/// The job that an event is about, if it is one.
fn job_of(entry: &Entry) -> Option<String> {
    let record = entry.event.as_ref().ok()?;
    Some(record.job.id.to_string())
}

/// Whether PostgreSQL is waited for, or somebody who brings the schema up to date.
fn kind(error: &WriteError) -> &'static str {
    match error {
        WriteError::Schema(_) => "schema",
        WriteError::Url(_)
        | WriteError::Unavailable(_)
        | WriteError::Silent(_)
        | WriteError::Runtime(_)
        | WriteError::Rejected(_) => "away",
    }
}
