//! Reading: connections that read, and jobs by id; pages of the history are in `page`.
//!
//! Every call ends within two seconds, whatever state PostgreSQL is in: the server decides nothing
//! while it can't ask. A connection is made when one is needed.

use crate::{
    address::{Address, AddressError},
    connection::{Advice, Fault, fault, interpret_statements, limit_statements},
    migrate::pending,
    query::Param,
    similar::Search,
    value::{COLUMNS, RowError, record, standing},
};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use imgsys_types::{Digest, JobId, JobRecord, Owner, PerceptualHash};
use postgres_types::Type;
use std::{fmt, time::Duration};
use tokio::time::{Instant, error::Elapsed, timeout_at};
use tokio_postgres::{Row, error::SqlState};
use uuid::Uuid;

/// How long a call may take, the wait for a connection included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// PostgreSQL is away or too slow: nothing is known, ask again later.
    #[error("PostgreSQL does not answer{}", .0.as_ref().map(|error| Advice(error).to_string()).unwrap_or_default())]
    Unavailable(#[source] Option<PoolError>),
    /// The connection string makes no sense.
    #[error("reading the connection string of PostgreSQL")]
    Url(#[from] AddressError),
    /// The database has not the schema that this program needs.
    #[error("the database's schema is not up to date: run `imgsys-persister migrate`")]
    Schema(#[source] Option<tokio_postgres::Error>),
    /// Anything else: a fault of ours, or rows that somebody else wrote.
    #[error("reading the history")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        match fault(&error) {
            Fault::Data => Self::Other(error.into()),
            Fault::Schema => Self::Schema(Some(error)),
            Fault::Passing => Self::Unavailable(Some(error.into())),
        }
    }
}

impl From<Elapsed> for ReadError {
    fn from(_: Elapsed) -> Self {
        Self::Unavailable(None)
    }
}

impl From<RowError> for ReadError {
    fn from(error: RowError) -> Self {
        Self::Other(error.into())
    }
}

/// A small pool of connections that read. A clone shares it.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("pool", &self.pool.status())
            .finish()
    }
}

impl Reader {
    /// A reader with at most `pool_size` connections. Fails only if the connection string makes
    /// no sense; PostgreSQL need not be there.
    pub fn new(url: &str, pool_size: usize) -> Result<Self, ReadError> {
        let Address { mut config, tls } = Address::parse(url, "imgsys-server")?;
        limit_statements(&mut config, DEADLINE);
        interpret_statements(&mut config);
        let fast = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(config, tls, fast))
            .max_size(pool_size.max(1))
            .build()
            .map_err(|error| ReadError::Other(error.into()))?;
        Ok(Self { pool })
    }

    /// The jobs with these ids, of whatever owner, in no order; those that are not there, or were
    /// deleted, are left out.
    pub async fn get(&self, ids: &[JobId]) -> Result<Vec<JobRecord>, ReadError> {
        records(&self.rows(ids, "AND j.deleted_at IS NULL").await?)
    }

    /// The same with those that were deleted, for whoever has to know that a job has ended: a
    /// deleted one has [`FailureReason::Deleted`](imgsys_types::FailureReason::Deleted).
    pub async fn get_with_deleted(&self, ids: &[JobId]) -> Result<Vec<JobRecord>, ReadError> {
        let rows = self.rows(ids, "").await?;
        let records: Result<_, RowError> = rows.iter().map(standing).collect();
        Ok(records?)
    }

    async fn rows(&self, ids: &[JobId], and: &str) -> Result<Vec<Row>, ReadError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let sql = format!(
            "SELECT {COLUMNS}, j.deleted_at IS NOT NULL AS deleted FROM jobs j
             LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             WHERE j.id = ANY($1) {and}"
        );
        self.query(&sql, &[(&ids, Type::UUID_ARRAY)]).await
    }

    /// What the runs of a job came to, newest first, those before `before` only: up to `limit`.
    /// They come with the job, each as if it were the newest.
    pub async fn runs(
        &self,
        job: JobId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, ReadError> {
        let sql = format!(
            "SELECT {} FROM jobs j JOIN predictions p ON p.job_id = j.id
             WHERE j.id = $1 AND j.deleted_at IS NULL AND p.run < $2 ORDER BY p.run DESC LIMIT $3",
            COLUMNS.replace("j.run", "p.run")
        );
        let before = before.map_or(i64::MAX, i64::from);
        let (job, limit) = (job.uuid(), i64::from(limit));
        let params: [Param<'_>; 3] = [
            (&job, Type::UUID),
            (&before, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.query(&sql, &params).await?;
        records(&rows)
    }

    /// The newest job of the owner with this image; one that has a hash, if there is any.
    pub async fn of_image(
        &self,
        owner: &Owner,
        sha256: &Digest,
    ) -> Result<Option<JobRecord>, ReadError> {
        let (owner, sha256) = (owner.as_str(), sha256.as_bytes().as_slice());
        let params = of_image_params(&owner, &sha256);
        let rows = self.query(&of_image(), &params).await?;
        Ok(records(&rows)?.pop())
    }

    /// Jobs of this owner, but `except`, whose perceptual hash differs from `hash` in at most
    /// `distance` bits, with the number of those: up to `limit`, the most alike first, among equals
    /// the newest.
    pub async fn similar(
        &self,
        owner: &Owner,
        hash: PerceptualHash,
        distance: u32,
        except: JobId,
        limit: u32,
    ) -> Result<Vec<(u32, JobRecord)>, ReadError> {
        let search = Search::new(owner, hash, distance, except, limit);
        let rows = self.query(&search.sql, &search.params()).await?;
        let found = rows.iter().map(|row| {
            let distance: i64 = row.try_get("distance")?;
            Ok((u32::try_from(distance).unwrap_or(u32::MAX), record(row)?))
        });
        let found: Result<_, RowError> = found.collect();
        Ok(found?)
    }

    /// Whether PostgreSQL answers and has the schema that this program needs.
    pub async fn ping(&self) -> Result<(), ReadError> {
        let rows = self
            .query("SELECT name FROM schema_migrations", &[])
            .await?;
        let applied: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        if pending(&applied?).is_empty() {
            Ok(())
        } else {
            Err(ReadError::Schema(None))
        }
    }

    /// Asks on connections of the pool until one is not dead: after a restart of PostgreSQL all
    /// are, and that is told only by trying.
    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, ReadError> {
        self.query_until(sql, params, Instant::now() + DEADLINE)
            .await
    }

    /// The same, if it is one of several that have to be done by then.
    pub(crate) async fn query_until(
        &self,
        sql: &str,
        params: &[Param<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, ReadError> {
        loop {
            let connection = timeout_at(deadline, self.pool.get()).await?;
            let connection = connection.map_err(|error| ReadError::Unavailable(Some(error)))?;
            // Planned for the very values, in one round trip: nothing is prepared.
            let answer = timeout_at(deadline, connection.query_typed(sql, params)).await;
            match answer {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) if is_stale(&connection, &error) => {
                    drop(Object::take(connection));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(elapsed) => {
                    // The next query on this connection would wait for the same answer.
                    drop(Object::take(connection));
                    return Err(elapsed.into());
                }
            }
        }
    }
}

/// Whether the connection was dead before it was asked, as far as one can tell: it had been used
/// before, and is closed now.
fn is_stale(connection: &Object, error: &tokio_postgres::Error) -> bool {
    let lost = error
        .code()
        .is_none_or(|code| [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code));
    Object::metrics(connection).recycle_count > 0 && lost && fault(error) == Fault::Passing
}

/// The statement of [`Reader::of_image`].
pub(crate) fn of_image() -> String {
    format!(
        "SELECT {COLUMNS} FROM (
             SELECT * FROM jobs
             WHERE owner = $1 AND sha256 = $2 AND deleted_at IS NULL
             ORDER BY perceptual_hash IS NULL, submitted_at DESC, id DESC LIMIT 1) j
         LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run"
    )
}

pub(crate) fn of_image_params<'a>(owner: &'a &'a str, sha256: &'a &'a [u8]) -> [Param<'a>; 2] {
    [(owner, Type::TEXT), (sha256, Type::BYTEA)]
}

pub(crate) fn records(rows: &[Row]) -> Result<Vec<JobRecord>, ReadError> {
    let records: Result<_, RowError> = rows.iter().map(record).collect();
    Ok(records?)
}
