//! What this machine can do at best, one thing at a time: what ours is held against.

use crate::{
    redis::{Redis, command},
    stats::{float, median},
};
use anyhow::{Context, anyhow};
use imgsys_local::{TestPostgres, TestRedis, Tuning};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// One of them, and how much of it a load on ours needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// What is done.
    pub(crate) name: String,
    /// So much of it a second.
    pub(crate) per_second: f64,
    /// Of what.
    pub(crate) unit: String,
    /// So much of it is needed for an image.
    pub(crate) per_image: f64,
    /// By this load…
    pub(crate) cell: String,
    /// …on this system.
    pub(crate) system: String,
}

/// How long each is tried.
const TIME: Duration = Duration::from_millis(700);
const REPETITIONS: usize = 3;
/// Commands in a pipeline, and bytes of what each carries: about a task.
const PIPELINE: usize = 64;
const TASK: usize = 400;
/// Rows in a transaction.
const ROWS: usize = 1000;

/// The most of each that can be done in a second: its name, how often, and of what.
pub(crate) fn measure(image: usize) -> anyhow::Result<Vec<(&'static str, f64, &'static str)>> {
    let redis = TestRedis::start()?;
    let postgres = TestPostgres::start_tuned(Tuning::Durable)?;
    // Where the systems keep their files, too.
    let folder = tempfile::tempdir()?;
    Ok(vec![
        (
            "Redis, 64 LPUSH or RPOP of 400 B in a pipeline",
            best(|| pipelined(&redis))?,
            "commands",
        ),
        ("loopback TCP", best(loopback)?, "bytes"),
        ("SHA-256, one core", best(|| sha256(image))?, "bytes"),
        (
            "file made, written and renamed",
            best(|| files(folder.path(), image, false))?,
            "files",
        ),
        (
            "the same, flushed",
            best(|| files(folder.path(), image, true))?,
            "files",
        ),
        (
            "PostgreSQL, 1000 rows a transaction",
            best(|| rows(&postgres))?,
            "rows",
        ),
    ])
}

fn best(measure: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let all = std::iter::repeat_with(measure).take(REPETITIONS);
    median(all.collect::<Result<Vec<_>, _>>()?).context("no repetition")
}

/// How often a second this can be done, and what it gives each time.
fn rate(mut step: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        done += step()?;
    }
    Ok(float(done) / start.elapsed().as_secs_f64())
}

fn pipelined(redis: &TestRedis) -> anyhow::Result<f64> {
    let mut redis = Redis::connect(&redis.url())?;
    let push = command(&[b"LPUSH", b"queue", &[b'x'; TASK]]).repeat(PIPELINE);
    let pop = command(&[b"RPOP", b"queue"]).repeat(PIPELINE);
    rate(|| {
        redis.pipeline(&push, PIPELINE)?;
        redis.pipeline(&pop, PIPELINE)?;
        Ok(2 * PIPELINE as u64)
    })
}

fn loopback() -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while receiver.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
    let bytes = vec![7; 1 << 18];
    let rate = rate(|| {
        sender.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    });
    drop(sender);
    reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    rate
}

fn sha256(image: usize) -> anyhow::Result<f64> {
    let mut bytes = vec![7; image];
    rate(|| {
        let digest = Sha256::digest(&bytes);
        bytes[..32].copy_from_slice(&digest);
        Ok(image as u64)
    })
}

fn files(folder: &Path, image: usize, flush: bool) -> anyhow::Result<f64> {
    let bytes = vec![7; image];
    let (written, place) = (folder.join("part"), folder.join("images"));
    fs::create_dir(&place)?;
    let mut number = 0;
    let rate = rate(|| {
        let mut file = File::create_new(&written)?;
        file.write_all(&bytes)?;
        if flush {
            file.sync_data()?;
        }
        number += 1;
        fs::rename(&written, place.join(number.to_string()))?;
        if flush {
            File::open(&place)?.sync_all()?;
        }
        Ok(1)
    });
    fs::remove_dir_all(&place)?;
    rate
}

fn rows(postgres: &TestPostgres) -> anyhow::Result<f64> {
    let mut client = postgres::Client::connect(&postgres.url(), postgres::NoTls)?;
    client.batch_execute(
        "DROP TABLE IF EXISTS rows;
         CREATE TABLE rows (id uuid PRIMARY KEY, at timestamptz, owner text, name text, sha256 bytea,
                            bytes bigint, label text, confidence float8)",
    )?;
    let insert = client.prepare(
        "INSERT INTO rows
         SELECT id::uuid, at::timestamptz, 'local', name, sha256(name::bytea), 10000, 'label', 77.5
         FROM unnest($1::text[], $2::text[], $3::text[]) AS new (id, at, name)",
    )?;
    let mut number = 0_u64;
    rate(|| {
        let numbers: Vec<u64> = (number..number + ROWS as u64).collect();
        number += ROWS as u64;
        let ids: Vec<String> = numbers
            .iter()
            .map(|number| format!("{number:032x}"))
            .collect();
        let times = vec!["2025-01-01 12:00:00Z"; ROWS];
        let names: Vec<String> = numbers
            .iter()
            .map(|number| format!("{number}.bmp"))
            .collect();
        Ok(client.execute(&insert, &[&ids, &times, &names])?)
    })
}
