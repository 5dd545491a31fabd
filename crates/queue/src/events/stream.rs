//! The stream of events as a persister sees it: a consumer of the group [`keys::GROUP`].
//!
//! An entry is the consumer's from [`EventStream::read`] until it is settled or set aside; if the
//! consumer dies, another claims it. After any error the connection is made anew by the next call,
//! which first reads again what had been handed out on the old one, for its answer may be lost.

use super::{
    DATA, Entry,
    reply::{claim_reply, read_reply, text},
    to_json,
};
use crate::{
    AddressError,
    address::Address,
    error::Advice,
    keys::{self, Keys},
};
use imgsys_types::{JobId, JobRecord, ServerId, Timestamp};
use redis::{Client, Cmd, Connection, ErrorKind, RedisError, RedisResult, Value, cmd};
use std::{collections::BTreeMap, fmt, time::Duration};
use tracing::{error, info};

/// How long Redis may take to connect, and to answer beyond the time a read may block.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a read blocks.
const MAX_BLOCK: Duration = Duration::from_secs(5);
/// How many entries a single XTRIM may remove, so that Redis is never busy with it for long.
const TRIM_STEP: usize = 10_000;
/// How many bad events are kept, about; the oldest go first.
const MAX_BAD: usize = 10_000;

/// Removes jobs from an `open` hash, but only if the entry settled is the one that ended them: by
/// now another run of the job may be under way.
/// KEYS: the hash. ARGV: job, entry, job, entry, …
const CLOSE: &str = "
local jobs, gone = {}, {}
for i = 1, #ARGV, 2 do
    jobs[#jobs + 1] = ARGV[i]
end
for i, mark in ipairs(redis.call('HMGET', KEYS[1], unpack(jobs))) do
    if mark == ARGV[2 * i] then
        gone[#gone + 1] = jobs[i]
    end
end
if #gone > 0 then
    redis.call('HDEL', KEYS[1], unpack(gone))
end";
/// How many jobs are closed at once: Lua's stack holds some thousands.
const CLOSE_STEP: usize = 1000;

/// Deletes consumers that hold nothing and have not asked for anything for long. In a script, for
/// with a consumer goes what it holds.
/// KEYS: the stream. ARGV: the group, milliseconds, the consumer that asks.
const BURY: &str = "
local buried = 0
for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #reply, 2 do consumer[reply[i]] = reply[i + 1] end
    if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) and consumer.name ~= ARGV[3] then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        buried = buried + 1
    end
end
return buried";

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The URL makes no sense.
    #[error("reading the URL of Redis")]
    Url(#[from] AddressError),
    /// Redis is away, or can't do it now: try again later.
    #[error("Redis can't {doing} now{}", Advice(source))]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// Redis's word.
        source: RedisError,
    },
}

/// A consumer of the stream.
pub struct EventStream {
    client: Client,
    keys: Keys,
    connection: Option<Connection>,
    consumer: String,
    /// What had been handed out before the connection was made is read again after this entry.
    replay: Option<String>,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}

impl EventStream {
    /// A consumer of this name; no two processes may share one. Connects when it is first asked
    /// for something.
    pub fn new(url: &str, consumer: impl Into<String>) -> Result<Self, StreamError> {
        let address = Address::parse(url)?;
        Ok(Self {
            client: address.client()?,
            keys: address.keys().clone(),
            connection: None,
            consumer: consumer.into(),
            replay: None,
        })
    }

    /// Makes the stream and the group, if they are not there, from the stream's very beginning.
    pub fn ensure_group(&mut self) -> Result<(), StreamError> {
        let create = cmd("XGROUP")
            .arg("CREATE")
            .arg(self.keys.events())
            .arg(keys::GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .to_owned();
        match self.ask("make the consumer group", &create) {
            Err(error) if error.has_code("BUSYGROUP") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The next events, at most `count`; waits up to `block` (0: not at all) for the first. None
    /// may come even so.
    pub fn read(&mut self, count: usize, block: Duration) -> Result<Vec<Entry>, StreamError> {
        const DOING: &str = "hand out events";
        // Connecting decides where reading begins.
        self.connection(DOING)?;
        if let Some(after) = self.replay.clone() {
            let held = self.read_after(DOING, &after, count, Duration::ZERO)?;
            self.replay = held.last().map(|entry| entry.id.clone());
            if !held.is_empty() {
                return Ok(held);
            }
        }
        self.read_after(DOING, ">", count, block)
    }

    fn read_after(
        &mut self,
        doing: &'static str,
        after: &str,
        count: usize,
        block: Duration,
    ) -> Result<Vec<Entry>, StreamError> {
        let block = block.min(MAX_BLOCK);
        // No longer than it has to be: the connection may be dead, and not know it.
        let patience = self
            .connection(doing)?
            .set_read_timeout(Some(block + PATIENCE));
        patience.map_err(|error| unavailable(doing, error))?;
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(keys::GROUP).arg(&self.consumer);
        read.arg("COUNT").arg(count);
        if !block.is_zero() {
            read.arg("BLOCK").arg(millis(block).max(1));
        }
        read.arg("STREAMS").arg(self.keys.events()).arg(after);
        let reply = self.ask_group(doing, &read)?;
        Ok(reply.map(read_reply).unwrap_or_default())
    }

    /// Takes over events, at most `count`, that some consumer has held for `min_idle`; empty if
    /// there are none. The time that this consumer has held them begins anew.
    pub fn claim(&mut self, min_idle: Duration, count: usize) -> Result<Vec<Entry>, StreamError> {
        let mut start = "0-0".to_owned();
        loop {
            let mut claim = cmd("XAUTOCLAIM");
            claim
                .arg(self.keys.events())
                .arg(keys::GROUP)
                .arg(&self.consumer);
            claim.arg(millis(min_idle)).arg(&start);
            claim.arg("COUNT").arg(count);
            let reply = self.ask_group("hand over events", &claim)?;
            let (entries, next) = reply.and_then(claim_reply).unwrap_or_default();
            match next {
                Some(next) if entries.is_empty() => start = next,
                _ => return Ok(entries),
            }
        }
    }

    /// Done with these entries: those `written` are in the database, of which their servers are
    /// told, with the time at which the run ended, by which its results are told apart; those `void`
    /// do not count. Jobs that have ended leave their server's `open`. All of
    /// it happens or nothing, and happens safely again.
    pub fn settle(&mut self, written: &[&Entry], void: &[&Entry]) -> Result<(), StreamError> {
        const DOING: &str = "settle events";
        let entries = || written.iter().chain(void);
        if entries().next().is_none() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.atomic().ignore_errors();
        pipeline
            .cmd("XACK")
            .arg(self.keys.events())
            .arg(keys::GROUP);
        for entry in entries() {
            pipeline.arg(&entry.id);
        }
        for (server, ended) in by_server(entries().copied()) {
            for ended in ended.chunks(CLOSE_STEP) {
                pipeline
                    .cmd("EVAL")
                    .arg(CLOSE)
                    .arg(1)
                    .arg(self.keys.open(server));
                for Ended { job, entry, .. } in ended {
                    pipeline.arg(job.to_string()).arg(entry);
                }
            }
        }
        for (server, ended) in by_server(written.iter().copied()) {
            let runs = ended.iter().map(|ended| {
                let task = keys::task_id(ended.job, ended.run);
                format!("[\"{task}\",{}]", ended.finished_at.as_micros())
            });
            let runs = format!("[{}]", runs.collect::<Vec<_>>().join(","));
            pipeline
                .cmd("PUBLISH")
                .arg(self.keys.persisted(server))
                .arg(runs);
        }
        let reply = pipeline.query(self.connection(DOING)?);
        let replies: Vec<RedisResult<Value>> = self.answered(DOING, reply)?;
        // A key of another kind, say: once more would change nothing.
        for error in replies.into_iter().filter_map(Result::err) {
            error!("settling events: {error}");
        }
        Ok(())
    }

    /// Puts an event that can't be written into [`Keys::bad_events`], with the reason, and is done
    /// with it. Its job, if it has one, stays in its server's `open`.
    pub fn set_aside(&mut self, entry: &Entry, reason: &str) -> Result<(), StreamError> {
        const DOING: &str = "set an event aside";
        let data = match &entry.event {
            Ok(record) => to_json(record).unwrap_or_default().into_bytes(),
            Err(bad) => bad.data.clone(),
        };
        let mut add = cmd("XADD");
        add.arg(self.keys.bad_events());
        add.arg("MAXLEN").arg("~").arg(MAX_BAD).arg("*");
        add.arg("id").arg(&entry.id).arg("reason").arg(reason);
        add.arg(DATA).arg(data);
        // One after the other, so that it is never gone from both.
        self.ask(DOING, &add)?;
        let mut ack = cmd("XACK");
        ack.arg(self.keys.events()).arg(keys::GROUP).arg(&entry.id);
        self.ask(DOING, &ack).map(drop)
    }

    /// Removes from the stream what every persister is done with, and says how many entries that
    /// were. Never by length: what waits to be written stays, however much it is.
    pub fn trim(&mut self) -> Result<usize, StreamError> {
        const DOING: &str = "trim the stream of events";
        // In this order: what was delivered by then and is not pending now has been settled.
        let Some(delivered) = self.last_delivered(DOING)? else {
            return Ok(0);
        };
        let mut pending = cmd("XPENDING");
        pending.arg(self.keys.events()).arg(keys::GROUP);
        let Some(Value::Array(summary)) = self.ask_group(DOING, &pending)? else {
            return Ok(0);
        };
        let smallest = summary.into_iter().nth(1).and_then(text);
        let keep = smallest.unwrap_or(delivered);
        let mut trim = cmd("XTRIM");
        trim.arg(self.keys.events()).arg("MINID").arg("~").arg(keep);
        trim.arg("LIMIT").arg(TRIM_STEP);
        let mut total = 0;
        loop {
            let gone = match self.ask(DOING, &trim)? {
                Value::Int(gone) => usize::try_from(gone).unwrap_or(0),
                _ => 0,
            };
            total += gone;
            // Whole nodes of the stream go, so a full step is a little less than that.
            if gone < TRIM_STEP / 2 {
                return Ok(total);
            }
        }
    }

    /// The last entry that was handed to anybody; `None` if none was.
    fn last_delivered(&mut self, doing: &'static str) -> Result<Option<String>, StreamError> {
        let mut groups = cmd("XINFO");
        groups.arg("GROUPS").arg(self.keys.events());
        let groups = match self.ask(doing, &groups) {
            Ok(Value::Array(groups)) => groups,
            Ok(_) => return Ok(None),
            Err(error) if error.has_code("ERR") => return Ok(None),
            Err(error) => return Err(error),
        };
        for group in groups {
            let fields: BTreeMap<String, Value> =
                redis::from_redis_value(group).map_err(|error| unavailable(doing, error.into()))?;
            let field = |name: &str| fields.get(name).cloned().and_then(text);
            if field("name").as_deref() == Some(keys::GROUP) {
                return Ok(field("last-delivered-id").filter(|id| id != "0-0"));
            }
        }
        Ok(None)
    }

    /// Deletes consumers that hold nothing and have not asked for anything for this long: those
    /// of processes that have ended. Says how many.
    pub fn bury(&mut self, idle: Duration) -> Result<usize, StreamError> {
        let mut bury = cmd("EVAL");
        bury.arg(BURY).arg(1).arg(self.keys.events());
        bury.arg(keys::GROUP).arg(millis(idle)).arg(&self.consumer);
        match self.ask("delete dead consumers", &bury) {
            Ok(Value::Int(count)) => Ok(usize::try_from(count).unwrap_or(0)),
            Ok(_) => Ok(0),
            // There is no stream or no group, so nobody to bury.
            Err(error) if error.has_code("ERR") || error.has_code("NOGROUP") => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Asks for something that needs the group; if it is not there it is made, and there is no
    /// answer.
    fn ask_group(&mut self, doing: &'static str, cmd: &Cmd) -> Result<Option<Value>, StreamError> {
        match self.ask(doing, cmd) {
            Ok(reply) => Ok(Some(reply)),
            // The stream went away before the read, or while it waited.
            Err(error) if error.has_code("NOGROUP") || error.has_code("UNBLOCKED") => {
                self.ensure_group()?;
                info!("made the consumer group {}: Redis had none", keys::GROUP);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, doing: &'static str, cmd: &Cmd) -> Result<Value, StreamError> {
        let reply = cmd.query(self.connection(doing)?);
        self.answered(doing, reply)
    }

    /// After an error that is not a plain answer the connection may be half way through one.
    fn answered<T>(
        &mut self,
        doing: &'static str,
        reply: RedisResult<T>,
    ) -> Result<T, StreamError> {
        reply.map_err(|error| {
            if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                self.connection = None;
            }
            unavailable(doing, error)
        })
    }

    fn connection(&mut self, doing: &'static str) -> Result<&mut Connection, StreamError> {
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let connection = connect(&self.client).map_err(|error| unavailable(doing, error))?;
            self.replay = Some("0".into());
            connection
        };
        Ok(self.connection.insert(connection))
    }
}

impl StreamError {
    fn has_code(&self, code: &str) -> bool {
        match self {
            Self::Unavailable { source, .. } => source.code() == Some(code),
            Self::Url(_) => false,
        }
    }
}

fn connect(client: &Client) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn unavailable(doing: &'static str, source: RedisError) -> StreamError {
    StreamError::Unavailable { doing, source }
}

/// A run of a job, and the entry that ended it.
struct Ended<'a> {
    job: JobId,
    run: u32,
    finished_at: Timestamp,
    entry: &'a str,
}

/// The runs that these entries ended, by server.
fn by_server<'a>(entries: impl Iterator<Item = &'a Entry>) -> BTreeMap<ServerId, Vec<Ended<'a>>> {
    let mut servers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in entries {
        if let Ok(JobRecord {
            job,
            result: Some(result),
        }) = &entry.event
        {
            let ended: &mut Vec<_> = servers.entry(job.server).or_default();
            ended.push(Ended {
                job: job.id,
                run: result.run,
                finished_at: result.finished_at,
                entry: &entry.id,
            });
        }
    }
    servers
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
