//! The schema's versions and how they are applied.
//!
//! A migration is a file of `sql/`, part of this program, and is never altered once it has been
//! released: the table `schema_migrations` keeps the text that was run, and a program whose text
//! is another refuses. Programs that start at the same time take turns under an advisory lock.

use crate::connection::{ConnectError, Fault, fault};
use postgres::Client;

/// The migrations, oldest first.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_jobs", include_str!("../../../sql/0001_jobs.sql")),
    (
        "0002_analyzers",
        include_str!("../../../sql/0002_analyzers.sql"),
    ),
    (
        "0003_deletion",
        include_str!("../../../sql/0003_deletion.sql"),
    ),
    ("0004_hashes", include_str!("../../../sql/0004_hashes.sql")),
    (
        "0005_predictions",
        include_str!("../../../sql/0005_predictions.sql"),
    ),
    (
        "0006_filters",
        include_str!("../../../sql/0006_filters.sql"),
    ),
    (
        "0007_confidence",
        include_str!("../../../sql/0007_confidence.sql"),
    ),
    ("0008_names", include_str!("../../../sql/0008_names.sql")),
];

/// The key of the advisory lock under which migrations run: "imgsys" in ASCII.
const LOCK: i64 = 0x696d_6773_7973;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// PostgreSQL refused a migration.
    #[error("applying migration {name}")]
    Apply {
        /// The migration.
        name: &'static str,
        /// PostgreSQL's word.
        source: postgres::Error,
    },
    /// A migration that was applied has another text in this program.
    #[error("migration {0} was applied with another text than this program has")]
    Altered(String),
    /// The database has a migration that this program does not know.
    #[error("the database is newer than this program: it has migration {0}")]
    Newer(String),
    /// The database can't hold every text.
    #[error("the database's encoding is {0}, but it must be UTF8")]
    Encoding(String),
    /// There is no connection.
    #[error("reaching the database")]
    Connect(#[from] ConnectError),
    /// Anything else that PostgreSQL says.
    #[error("reading the database's schema version")]
    Database(#[from] postgres::Error),
}

impl MigrateError {
    /// Whether the same may go well later: the server is away, not the schema wrong.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Apply { source, .. }
            | Self::Database(source)
            | Self::Connect(ConnectError::Postgres { source }) => fault(source) == Fault::Passing,
            Self::Connect(ConnectError::Url(_))
            | Self::Altered(_)
            | Self::Newer(_)
            | Self::Encoding(_) => false,
        }
    }
}

/// Which migrations a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Those applied, oldest first.
    pub applied: Vec<String>,
    /// Those that this program has beyond them, oldest first.
    pub pending: Vec<&'static str>,
}

impl Status {
    /// Whether everything that this program expects is there.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Which migrations the database has and lacks. Changes nothing.
pub fn status(client: &mut Client) -> Result<Status, MigrateError> {
    let known = client.query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[])?;
    let applied = if known.get(0) {
        applied(client)?
    } else {
        Vec::new()
    };
    let applied: Vec<String> = applied.into_iter().map(|(name, _)| name).collect();
    let pending = pending(&applied);
    Ok(Status { applied, pending })
}

/// The migrations that are not among those applied.
pub(crate) fn pending(applied: &[String]) -> Vec<&'static str> {
    let names = MIGRATIONS.iter().map(|(name, _)| *name);
    names
        .filter(|name| !applied.iter().any(|done| done == name))
        .collect()
}

/// Applies what is missing, and says what that was. Waits while another program is at it.
pub fn migrate(client: &mut Client) -> Result<Vec<&'static str>, MigrateError> {
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK])?;
    let outcome = apply(client);
    // A lost connection has lost the lock, too: the first error is the one to tell.
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]);
    let done = outcome?;
    unlocked?;
    Ok(done)
}

fn apply(client: &mut Client) -> Result<Vec<&'static str>, MigrateError> {
    let encoding: String = client.query_one("SHOW server_encoding", &[])?.get(0);
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding(encoding));
    }
    client.batch_execute(
        "SET client_min_messages = warning;
         CREATE TABLE IF NOT EXISTS schema_migrations (
             name       text PRIMARY KEY,
             sql        text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now()
         );
         COMMENT ON TABLE schema_migrations IS
             'The migrations that were applied, with the text that was run.'",
    )?;
    let applied = applied(client)?;
    for (name, sql) in &applied {
        match MIGRATIONS.iter().find(|(known, _)| known == name) {
            None => return Err(MigrateError::Newer(name.clone())),
            Some((_, text)) if text != sql => return Err(MigrateError::Altered(name.clone())),
            Some(_) => {}
        }
    }
    let mut done = Vec::new();
    for &(name, sql) in MIGRATIONS {
        if applied.iter().any(|(known, _)| known == name) {
            continue;
        }
        let failed = |source| MigrateError::Apply { name, source };
        let mut transaction = client.transaction()?;
        transaction.batch_execute(sql).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (name, sql) VALUES ($1, $2)",
                &[&name, &sql],
            )
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        done.push(name);
    }
    Ok(done)
}

fn applied(client: &mut Client) -> Result<Vec<(String, String)>, postgres::Error> {
    let rows = client.query(
        "SELECT name, sql FROM schema_migrations ORDER BY name COLLATE \"C\"",
        &[],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
