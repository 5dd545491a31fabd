//! Writing: a batch of events becomes rows in one transaction.
//!
//! Events may come in any order, twice, and from several persisters at once: a job's row is made
//! by whichever event comes first, `predictions` has a row for each run, and `jobs` repeats the
//! newest of them. An event whose id belongs to a job of another owner or digest changes nothing,
//! nor does one of a job that was deleted: what was erased does not come back.

use crate::{
    address::{Address, AddressError},
    batch::{Ends, Jobs, Line, Predictions, rounds},
    connection::{Advice, Fault, fault, limit_statements},
    migrate::pending,
};
use imgsys_types::JobRecord;
use std::{collections::HashSet, fmt, io, time::Duration};
use tokio::{runtime, time::timeout};
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

/// How long PostgreSQL may take over a transaction, unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

const JOBS: &str = "
    INSERT INTO jobs (id, owner, sha256, name, bytes, priority, submitted_at, server,
                      state, run, label, confidence, finished_at,
                      analyzer, analyzer_version, model, perceptual_hash)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bigint[],
                         $6::smallint[], $7::timestamptz[], $8::uuid[], $9::job_state[],
                         $10::bigint[], $11::text[], $12::float8[], $13::timestamptz[], $14::text[],
                         $15::text[], $16::bytea[], $17::bigint[])
    ON CONFLICT (id) DO UPDATE SET
        state = excluded.state, run = excluded.run, label = excluded.label,
        confidence = excluded.confidence, finished_at = excluded.finished_at,
        analyzer = excluded.analyzer, analyzer_version = excluded.analyzer_version,
        model = excluded.model, perceptual_hash = excluded.perceptual_hash
    WHERE jobs.owner = excluded.owner AND jobs.sha256 = excluded.sha256
      AND jobs.deleted_at IS NULL AND excluded.run > coalesce(jobs.run, -1)";

const PREDICTIONS: &str = "
    INSERT INTO predictions (job_id, run, state, analyzer, analyzer_version, model, label,
                             confidence, scores, properties, reason, detail, worker, attempts,
                             queued_us, analysis_us, finished_at)
    SELECT e.id, e.run, e.state, e.analyzer, e.analyzer_version, e.model, e.label,
           e.confidence, e.scores, e.properties, e.reason, e.detail, e.worker, e.attempts,
           e.queued_us, e.analysis_us, e.finished_at
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bigint[], $5::job_state[], $6::text[],
                $7::text[], $8::bytea[], $9::text[], $10::float8[], $11::jsonb[], $12::jsonb[],
                $13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[],
                $18::bigint[], $19::timestamptz[])
         AS e (id, owner, sha256, run, state, analyzer, analyzer_version, model, label,
               confidence, scores, properties, reason, detail, worker, attempts,
               queued_us, analysis_us, finished_at)";

/// Leaves out what is of another owner's job, or of one with another image, or of a deleted one.
const OF_THEIR_JOBS: &str = "
    JOIN jobs j ON j.id = e.id AND j.owner = e.owner AND j.sha256 = e.sha256
                AND j.deleted_at IS NULL";

const EACH_ONCE: &str = "
    ON CONFLICT (job_id, run) DO NOTHING";

const CONFLICTS: &str = "
    SELECT e.id
    FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS e (id, owner, sha256)
    JOIN jobs j ON j.id = e.id
    WHERE j.owner <> e.owner OR j.sha256 <> e.sha256";

/// Events whose run has another result in the database.
const SUPERSEDED: &str = "
    SELECT e.place
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bigint[], $5::timestamptz[])
         WITH ORDINALITY AS e (id, owner, sha256, run, finished_at, place)
    JOIN jobs j ON j.id = e.id AND j.owner = e.owner AND j.sha256 = e.sha256
    JOIN predictions p ON p.job_id = e.id AND p.run = e.run AND p.finished_at <> e.finished_at";

/// Removes what gives way to a result that was told, so that it is written like any other.
const GIVE_WAY: &str = "
    WITH other AS (
        DELETE FROM predictions p
        USING unnest($1::uuid[], $2::text[], $3::bytea[], $4::bigint[], $5::timestamptz[])
                  AS e (id, owner, sha256, run, finished_at),
              jobs j
        WHERE j.id = e.id AND j.owner = e.owner AND j.sha256 = e.sha256 AND j.deleted_at IS NULL
          AND p.job_id = e.id AND p.run = e.run AND p.finished_at <> e.finished_at
        RETURNING p.job_id, p.run
    )
    UPDATE jobs j
    SET state = 'queued', run = NULL, label = NULL, confidence = NULL, finished_at = NULL,
        analyzer = NULL, analyzer_version = NULL, model = NULL, perceptual_hash = NULL
    FROM other
    WHERE j.id = other.job_id AND j.run = other.run";

/// What is settled once a batch is told as written must be on PostgreSQL's disk; and a plan made
/// while the tables were small must not be kept. Between the statements of a transaction nothing is
/// waited for: one that is idle for long is of a persister that is gone without a word, and holds up
/// all others that have the same jobs. So does a statement of one that is gone.
const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off';
    SET plan_cache_mode = force_custom_plan;
    SET idle_in_transaction_session_timeout = '5s';
    SET tcp_user_timeout = '5s';
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 1;
    SET tcp_keepalives_count = 3;
    SET client_min_messages = warning";

/// Why a batch could not be written. Nothing of it is.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection string makes no sense.
    #[error("reading the connection string of PostgreSQL")]
    Url(#[from] AddressError),
    /// PostgreSQL is away, or can't write now: try again later, on a new connection.
    #[error("PostgreSQL can't take events now{}", Advice(.0))]
    Unavailable(#[source] tokio_postgres::Error),
    /// PostgreSQL, or what is between, does not answer: try again on a new connection.
    #[error("PostgreSQL has not answered for {0:?}")]
    Silent(Duration),
    /// The system has no means left to wait for anything.
    #[error("preparing to wait for PostgreSQL")]
    Runtime(#[source] io::Error),
    /// The database has not the schema that this program needs.
    #[error("the database's schema is not up to date: run `imgsys-persister migrate`")]
    Schema(#[source] Option<tokio_postgres::Error>),
    /// PostgreSQL refuses a value of the batch, and will again.
    #[error("PostgreSQL refuses an event")]
    Rejected(#[source] tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for WriteError {
    fn from(error: tokio_postgres::Error) -> Self {
        match fault(&error) {
            Fault::Data => Self::Rejected(error),
            Fault::Schema => Self::Schema(Some(error)),
            Fault::Passing => Self::Unavailable(error),
        }
    }
}

/// What became of a batch that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct WriteReport {
    /// The places in the batch of the events that did not count, in order: their id belongs to a
    /// job of another owner or digest.
    pub conflicts: Vec<usize>,
    /// The places of those whose run has another result, in order: there were two, and the other
    /// one stands.
    pub superseded: Vec<usize>,
}

/// A connection that writes, for a thread that may block. Every call ends within its limit.
pub struct Writer {
    /// What the connection lives in.
    runtime: runtime::Runtime,
    limit: Duration,
    client: Client,
    statements: Statements,
}

/// What is prepared on a connection.
struct Statements {
    jobs: Statement,
    predictions: Statement,
    /// The same for jobs that are known to be the events' own.
    own_predictions: Statement,
    conflicts: Statement,
    superseded: Statement,
    give_way: Statement,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Whether the connection string makes sense.
    pub fn check(url: &str) -> Result<(), WriteError> {
        Address::parse(url, "imgsys-persister")?;
        Ok(())
    }

    /// Connects, once: whoever calls decides how long to go on trying.
    pub fn connect(url: &str) -> Result<Self, WriteError> {
        Self::connect_within(url, PATIENCE)
    }

    /// The same; this and every batch that is written may take so long.
    pub fn connect_within(url: &str, limit: Duration) -> Result<Self, WriteError> {
        let Address { mut config, tls } = Address::parse(url, "imgsys-persister")?;
        // A transaction that nobody waits for any more must not hold its locks.
        limit_statements(&mut config, limit);
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(WriteError::Runtime)?;
        let connecting = async {
            let (client, connection) = config.connect(tls).await?;
            // How it ends is told to whoever uses the client.
            tokio::spawn(connection);
            let rows = client
                .query("SELECT name FROM schema_migrations", &[])
                .await?;
            let applied: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            if !pending(&applied?).is_empty() {
                return Err(WriteError::Schema(None));
            }
            client.batch_execute(SESSION).await?;
            let statements = Statements {
                jobs: client.prepare(JOBS).await?,
                predictions: client
                    .prepare(&[PREDICTIONS, OF_THEIR_JOBS, EACH_ONCE].concat())
                    .await?,
                own_predictions: client.prepare(&[PREDICTIONS, EACH_ONCE].concat()).await?,
                conflicts: client.prepare(CONFLICTS).await?,
                superseded: client.prepare(SUPERSEDED).await?,
                give_way: client.prepare(GIVE_WAY).await?,
            };
            Ok((client, statements))
        };
        let (client, statements) = within(&runtime, limit, connecting)?;
        Ok(Self {
            runtime,
            limit,
            client,
            statements,
        })
    }

    /// Writes a batch: all of it is committed, or none. The same batch again changes nothing, so
    /// after an error of the connection, which may have come after the commit, it is tried again.
    pub fn write(&mut self, records: &[&JobRecord]) -> Result<WriteReport, WriteError> {
        self.write_told(records, &[])
    }

    /// As [`Writer::write`]; `told` are the places, in order, of the events whose results are known
    /// to their clients. Another result of the same run gives way to them, whether it is in the
    /// database or in the batch; without that, the first to come stands.
    pub fn write_told(
        &mut self,
        records: &[&JobRecord],
        told: &[usize],
    ) -> Result<WriteReport, WriteError> {
        let mut report = WriteReport::default();
        let rounds = rounds(records, told);
        if rounds.is_empty() {
            return Ok(report);
        }
        let Self {
            client, statements, ..
        } = self;
        let writing = async {
            let mut transaction = client.transaction().await?;
            if !told.is_empty() {
                let ends = Ends::of(told.iter().map(|&place| (place, records[place])));
                let params = ends.params();
                transaction.execute(&statements.give_way, &params).await?;
            }
            let mut inserted = 0;
            for lines in &rounds {
                let jobs = Jobs::of(lines);
                let changed = transaction
                    .execute(&statements.jobs, &jobs.params())
                    .await?;
                // A line that changed nothing was known already, or its id is somebody else's. One that
                // did has met its own job, not deleted, and has locked it until the commit.
                let all_changed = changed == lines.len() as u64;
                let predictions = Predictions::of(lines);
                if !predictions.is_empty() {
                    let statement = if all_changed {
                        &statements.own_predictions
                    } else {
                        &statements.predictions
                    };
                    let params = predictions.params();
                    inserted += transaction.execute(statement, &params).await?;
                }
                if !all_changed {
                    let taken = taken(&mut transaction, &statements.conflicts, &jobs).await?;
                    report.conflicts.extend(events_of(&taken, lines, records));
                }
            }
            let ends = Ends::of(records.iter().copied().enumerate());
            // Those that were not inserted were known already, or there was another.
            if inserted < ends.places.len() as u64 {
                let params = ends.params();
                for row in transaction.query(&statements.superseded, &params).await? {
                    let place = usize::try_from(row.try_get::<_, i64>(0)?).ok();
                    let place = place.and_then(|place| ends.places.get(place.checked_sub(1)?));
                    report.superseded.extend(place);
                }
            }
            transaction.commit().await?;
            Ok(())
        };
        within(&self.runtime, self.limit, writing)?;
        report.conflicts.sort_unstable();
        report.superseded.sort_unstable();
        Ok(report)
    }
}

/// Waits for what PostgreSQL says, but not longer than this.
fn within<T>(
    runtime: &runtime::Runtime,
    limit: Duration,
    doing: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    let answer = runtime.block_on(async { timeout(limit, doing).await });
    answer.unwrap_or(Err(WriteError::Silent(limit)))
}

/// The ids that belong to jobs of other owners or digests.
async fn taken(
    transaction: &mut Transaction<'_>,
    statement: &Statement,
    jobs: &Jobs<'_>,
) -> Result<HashSet<Uuid>, tokio_postgres::Error> {
    let rows = transaction.query(statement, &jobs.keys.params()).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The places of the events of those lines whose id is taken.
fn events_of(taken: &HashSet<Uuid>, lines: &[Line<'_>], records: &[&JobRecord]) -> Vec<usize> {
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| taken.contains(&line.id()))
        .collect();
    let of_any = |record: &JobRecord| lines.iter().any(|line| line.is_of(&record.job));
    (0..records.len())
        .filter(|&place| of_any(records[place]))
        .collect()
}
