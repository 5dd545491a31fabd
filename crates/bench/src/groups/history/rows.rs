//! Five million rows, loaded in a few minutes.

use crate::bench::say;
use anyhow::{Context, anyhow};
use imgsys_local::Postgres;
use postgres::{Client, NoTls};
use std::{thread, time::Instant};

/// So many jobs.
const ROWS: u64 = 5_000_000;

const MADE: &str = include_str!("rows.sql");
const JOBS: &str = include_str!("jobs.sql");
const PREDICTIONS: &str = include_str!("predictions.sql");

/// Nothing of it is to outlive this run, and reading is the same.
const PREPARE: &str = "
    ALTER TABLE predictions SET UNLOGGED;
    ALTER TABLE jobs SET UNLOGGED;
    ALTER ROLE imgsys SET maintenance_work_mem = '256MB'";

/// Puts the jobs into the tables of this schema, as migrations have made it. Indexes are made
/// anew, when all rows are there.
pub(super) fn load(postgres: &Postgres) -> anyhow::Result<()> {
    let url = postgres.url();
    let start = Instant::now();
    let mut client = connect(&url)?;
    let indexes = client.query(
        "SELECT indexname, indexdef FROM pg_indexes i
         WHERE tablename = 'jobs' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = i.indexname)",
        &[],
    )?;
    client
        .batch_execute(PREPARE)
        .context("preparing the tables")?;
    for index in &indexes {
        client.batch_execute(&format!("DROP INDEX {}", index.get::<_, &str>(0)))?;
    }
    client
        .batch_execute(&MADE.replace("ROWS", &ROWS.to_string()))
        .context("making up jobs")?;
    both(|| run(&url, &[JOBS]), || run(&url, &[PREDICTIONS]))?;
    say(format!(
        "{ROWS} rows after {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    let indexes: Vec<&str> = indexes.iter().map(|index| index.get(1)).collect();
    let (some, others) = indexes.split_at(indexes.len() / 2);
    both(|| run(&url, some), || run(&url, others))?;
    say(format!(
        "indexes after {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    both(
        || run(&url, &["VACUUM ANALYZE jobs"]),
        || run(&url, &["VACUUM ANALYZE predictions"]),
    )?;
    say(format!(
        "all is ready after {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A connection as the role that owns the tables.
pub(super) fn connect(url: &str) -> anyhow::Result<Client> {
    Client::connect(url, NoTls).context("connecting to PostgreSQL")
}

fn run(url: &str, statements: &[&str]) -> anyhow::Result<()> {
    let mut client = connect(url)?;
    for statement in statements {
        client
            .batch_execute(statement)
            .with_context(|| format!("running {}", statement.lines().next().unwrap_or_default()))?;
    }
    Ok(())
}

/// At the same time.
fn both(
    one: impl FnOnce() -> anyhow::Result<()> + Send,
    other: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        one.join().map_err(|_| anyhow!("loading rows panicked"))??;
        other
    })
}
