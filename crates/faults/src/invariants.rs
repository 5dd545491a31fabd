//! What must be true in the end, whatever happened. This is the only place that says so.
//!
//! 1. Every accepted job has exactly one row, with one prediction of run 0.
//! 2. Its answer is its row; the same image has the same label.
//! 3. No row without a job that was accepted.
//! 4. Each owner's history has each of his jobs exactly once.
//! 5. The image of every accepted job is on its server's disk, and every file there hashes to its
//!    name.
//! 6. When all is done, all is empty: spool, queue, claims, `unacked`, `open`, pending events,
//!    takeovers, temporary files, dead letters except for those who died of them.
//! 7. No task is held for much longer than its lease without a sign of life.

use crate::{
    client::Connection,
    images::digest,
    ledger::{End, Entry, Ledger},
    load::Person,
};
use anyhow::Context;
use imgsys_queue::keys::{GROUP, Keys};
use imgsys_types::{JobId, JobResult, JobState, Outcome};
use postgres::NoTls;
use redis::Commands;
use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::BuildHasher,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// A server, and where its images are.
#[derive(Debug, Clone)]
pub struct ServerPlace {
    /// Where clients are served.
    pub address: String,
    /// The directory of its image files.
    pub images: PathBuf,
}

/// Where everything is that can be looked at.
#[derive(Debug, Clone)]
pub struct World {
    /// Redis' URL.
    pub redis: String,
    /// PostgreSQL's.
    pub database: String,
    /// All servers.
    pub servers: Vec<ServerPlace>,
    /// All who send.
    pub people: Vec<Person>,
    /// How long a task stays a worker's without a sign of life.
    pub lease: Duration,
}

/// What was found.
#[derive(Debug, Default, Clone)]
pub struct Verdict {
    /// Rows of jobs with a result.
    pub rows: u64,
    /// Accepted jobs without a row that has a result.
    pub lost: u64,
    /// Jobs that are more than once in the history, or have more than one prediction.
    pub doubled: u64,
    /// Answers that differ from their row or from the truth; rows that nobody sent.
    pub wrong: u64,
    /// Jobs that more than one worker took up.
    pub rerun: u64,
    /// All of it, in words; and what was not empty.
    pub failures: Vec<String>,
}

/// Words are for people: so many of them, and no more.
const MOST_FAILURES: usize = 20;

impl Verdict {
    fn fails(&mut self, what: String) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(what);
        }
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong += 1;
        self.fails(what);
    }
}

struct Row {
    id: String,
    owner: String,
    sha256: Vec<u8>,
    state: String,
    label: Option<String>,
    confidence: Option<f64>,
    reason: Option<String>,
    attempts: Option<i64>,
    predictions: i64,
}

impl Row {
    fn job<'a>(&self, jobs: &'a HashMap<JobId, Entry>) -> Option<(JobId, &'a Entry)> {
        let id = self.id.parse().ok()?;
        Some((id, jobs.get(&id)?))
    }
}

/// Waits until all is quiet, at most so long, then looks at everything. An error says that it could
/// not be looked at, not that anything was wrong.
pub fn check(world: &World, ledger: &Ledger, within: Duration) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let jobs = ledger.jobs();
    settle(world, &jobs, &runtime, within, &mut verdict)?;
    for complaint in ledger.complaints() {
        verdict.is_wrong(complaint);
    }
    let rows = rows(&world.database)?;
    check_rows(&jobs, &rows, &mut verdict);
    check_history(world, &jobs, &runtime, &mut verdict)?;
    check_images(world, &jobs, &rows, &mut verdict)?;
    Ok(verdict)
}

/// Waits until nothing is under way any more.
fn settle(
    world: &World,
    jobs: &HashMap<JobId, Entry>,
    runtime: &Runtime,
    within: Duration,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let condemned = jobs
        .values()
        .filter(|job| job.end == End::Condemned)
        .count();
    let deadline = Instant::now() + within;
    let mut stale_since = None;
    loop {
        let problem = match unrest(world, condemned, runtime) {
            Ok(None) => return Ok(()),
            Ok(Some(problem)) => problem,
            Err(problem) => format!("{problem:#}"),
        };
        if Instant::now() > deadline {
            verdict.fails(format!("after {} s: {problem}", within.as_secs()));
            return Ok(());
        }
        // A worker looks for what dead ones have left three times in a lease, and not in the first
        // half of it if nobody has looked for a whole one.
        let stale = oldest_lease(world).is_ok_and(|age| age > world.lease);
        let since = *stale_since.get_or_insert_with(Instant::now);
        if !stale {
            stale_since = None;
        } else if since.elapsed() > world.lease * 3 + Duration::from_secs(5) {
            verdict.fails("a task is held beyond its lease, and nobody takes it over".into());
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
}

/// The age of the lease that was renewed the longest ago.
fn oldest_lease(world: &World) -> anyhow::Result<Duration> {
    let keys = Keys::of(&world.redis)?;
    let mut redis = connect_redis(world)?;
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut redis)?;
    let oldest: Vec<(String, f64)> = redis.zrange_withscores(keys.unacked_index(), 0, 0)?;
    let renewed = oldest.first().map_or(f64::MAX, |(_, renewed)| *renewed);
    let now = Duration::from_secs(seconds);
    Ok(Duration::try_from_secs_f64((now.as_secs_f64() - renewed).max(0.0)).unwrap_or_default())
}

fn connect_redis(world: &World) -> anyhow::Result<redis::Connection> {
    let client = redis::Client::open(world.redis.as_str())?;
    client.get_connection().context("connecting to Redis")
}

/// The first thing that is not as it is when all is done.
fn unrest(world: &World, condemned: usize, runtime: &Runtime) -> anyhow::Result<Option<String>> {
    let token = world.people.first().and_then(|person| person.token.clone());
    let mut servers = Vec::new();
    for server in &world.servers {
        let status = runtime.block_on(async {
            let mut connection = Connection::open(&server.address, token.as_deref()).await?;
            connection.status().await
        });
        let status = status.with_context(|| format!("asking {} how it is", server.address))?;
        if status.spool > 0 {
            return Ok(Some(format!("{} jobs are in the spool", status.spool)));
        }
        servers.push(status.server);
        let incoming = server.images.join("incoming");
        let left = fs::read_dir(&incoming).map_or(0, Iterator::count);
        if left > 0 {
            return Ok(Some(format!("{left} files in {}", incoming.display())));
        }
    }
    let keys = Keys::of(&world.redis)?;
    let mut redis = connect_redis(world)?;
    let mut counts: Vec<(String, usize)> = Vec::new();
    for list in keys.queue_lists() {
        counts.push(("tasks on a list".into(), redis.llen(list)?));
    }
    counts.push(("tasks are held".into(), redis.hlen(keys.unacked())?));
    counts.push(("leases".into(), redis.zcard(keys.unacked_index())?));
    counts.push((
        "takeovers are counted".into(),
        redis.hlen(keys.takeovers())?,
    ));
    counts.push(("bad events".into(), redis.xlen(keys.bad_events())?));
    for server in servers {
        counts.push(("jobs are open".into(), redis.hlen(keys.open(server))?));
    }
    let claims: Vec<String> = redis.keys("*imgsys:claim:*")?;
    counts.push((format!("claims: {claims:?}"), claims.len()));
    let dead: usize = redis.llen(keys.dead())?;
    counts.push((
        format!("dead letters rather than {condemned}"),
        dead.abs_diff(condemned),
    ));
    if redis.exists(keys.events())? {
        let pending: redis::streams::StreamPendingReply = redis.xpending(keys.events(), GROUP)?;
        counts.push(("events are not acknowledged".into(), pending.count()));
    }
    let found = counts.into_iter().find(|(_, count)| *count > 0);
    Ok(found.map(|(what, count)| format!("{count} {what}")))
}

/// Waits until every one of these jobs has its row, at most so long, and gives what is wrong: rows
/// that differ from the answers or are too many.
pub fn check_answers<S: BuildHasher>(
    database: &str,
    answers: &HashMap<JobId, JobResult, S>,
    within: Duration,
) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + within;
    let ended = |row: &Row| row.state != JobState::Queued.as_str();
    loop {
        let rows = rows(database)?;
        let count = rows.iter().filter(|row| ended(row)).count();
        if count >= answers.len() || Instant::now() > deadline {
            return Ok(misfits(&rows, answers));
        }
        sleep(Duration::from_millis(50));
    }
}

fn misfits<S: BuildHasher>(rows: &[Row], answers: &HashMap<JobId, JobResult, S>) -> Vec<String> {
    let mut wrong = Vec::new();
    if rows.len() != answers.len() {
        wrong.push(format!("{} rows of {} jobs", rows.len(), answers.len()));
    }
    for row in rows {
        let answer = row.id.parse().ok().and_then(|id: JobId| answers.get(&id));
        let problem = match answer {
            None => Some("has a row, and no answer".to_owned()),
            Some(_) if row.predictions != 1 => Some("has not one prediction".to_owned()),
            Some(answer) => differs(answer, row),
        };
        wrong.extend(problem.map(|problem| format!("{}: {problem}", row.id)));
    }
    wrong
}

fn rows(database: &str) -> anyhow::Result<Vec<Row>> {
    let mut client =
        postgres::Client::connect(database, NoTls).context("connecting to the database")?;
    let rows = client.query(
        "SELECT j.id::text, j.owner, j.sha256, j.state::text, p.label, p.confidence, p.reason,
                p.attempts, (SELECT count(*) FROM predictions q WHERE q.job_id = j.id)
         FROM jobs j LEFT JOIN predictions p ON p.job_id = j.id AND p.run = 0",
        &[],
    )?;
    let row = |row: &postgres::Row| Row {
        id: row.get(0),
        owner: row.get(1),
        sha256: row.get(2),
        state: row.get(3),
        label: row.get(4),
        confidence: row.get(5),
        reason: row.get(6),
        attempts: row.get(7),
        predictions: row.get(8),
    };
    Ok(rows.iter().map(row).collect())
}

fn check_rows(jobs: &HashMap<JobId, Entry>, rows: &[Row], verdict: &mut Verdict) {
    let mut ended = HashSet::new();
    for row in rows {
        let id = &row.id;
        let Some((job_id, job)) = row.job(jobs).filter(|(_, job)| job.accepted.is_some()) else {
            verdict.is_wrong(format!("{id} has a row, and was never accepted"));
            continue;
        };
        if row.predictions > 1 {
            verdict.doubled += 1;
            verdict.fails(format!("{id} has {} predictions", row.predictions));
        }
        if row.state == JobState::Queued.as_str() {
            continue;
        }
        verdict.rows += 1;
        ended.insert(job_id);
        verdict.rerun += u64::from(row.attempts.is_some_and(|attempts| attempts > 1));
        if row.owner != job.owner || row.sha256 != job.sha256.as_bytes() {
            verdict.is_wrong(format!("{id} is another's row"));
        }
        if let Some((answer, _)) = &job.answer
            && let Some(problem) = differs(answer, row)
        {
            verdict.is_wrong(format!("{id}: {problem}"));
        }
    }
    for (id, job) in jobs {
        if job.accepted.is_some() && !ended.contains(id) {
            verdict.lost += 1;
            verdict.fails(format!("{id} is lost"));
        }
    }
}

fn differs(answer: &JobResult, row: &Row) -> Option<String> {
    let same = match &answer.outcome {
        Outcome::Done(analysis) => {
            row.label.as_ref() == Some(&analysis.label)
                && row.confidence == Some(analysis.confidence)
        }
        Outcome::Failed(failure) => row.reason.as_deref() == Some(failure.reason.as_str()),
    };
    let state = answer.outcome.state().as_str();
    let same = same && row.state == state && row.attempts == Some(i64::from(answer.attempts));
    (!same).then(|| {
        format!(
            "told {:?}, written {} {:?} {:?} {:?}",
            answer.outcome, row.state, row.label, row.confidence, row.reason
        )
    })
}

/// What each owner is shown.
fn check_history(
    world: &World,
    jobs: &HashMap<JobId, Entry>,
    runtime: &Runtime,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let mut looked = HashSet::new();
    for person in &world.people {
        if !looked.insert(person.owner.clone()) {
            continue;
        }
        let Some(server) = world.servers.first() else {
            return Ok(());
        };
        let shown = runtime.block_on(async {
            let token = person.token.as_deref();
            let mut connection = Connection::open(&server.address, token).await?;
            connection.history().await
        });
        let shown = shown.with_context(|| format!("reading the history of {}", person.owner))?;
        let mut seen = HashSet::new();
        for record in shown {
            if !seen.insert(record.job.id) {
                verdict.doubled += 1;
                verdict.fails(format!("{} is twice in the history", record.job.id));
            }
        }
        let own = jobs
            .iter()
            .filter(|(_, job)| job.owner == person.owner && job.accepted.is_some());
        for (id, _) in own {
            if !seen.remove(id) {
                verdict.lost += 1;
                verdict.fails(format!(
                    "{id} is missing in the history of {}",
                    person.owner
                ));
            }
        }
        for id in seen {
            verdict.is_wrong(format!("{id} is in the history of {}", person.owner));
        }
    }
    Ok(())
}

fn check_images(
    world: &World,
    jobs: &HashMap<JobId, Entry>,
    rows: &[Row],
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let mut kept = HashSet::new();
    for server in &world.servers {
        let mut files = Vec::new();
        let images = &server.images;
        list(images, &mut files).with_context(|| format!("reading {}", images.display()))?;
        for file in files {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Others than images are named otherwise: locks, the ballast of a full disk.
            let Ok(named) = name.parse() else {
                continue;
            };
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            if digest(&bytes) == named {
                kept.insert(named);
            } else {
                verdict.is_wrong(format!("{} holds other bytes", file.display()));
            }
        }
    }
    let missing = rows
        .iter()
        .filter_map(|row| Some(row.job(jobs)?.1))
        .filter(|job| !kept.contains(&job.sha256));
    for job in missing {
        verdict.lost += 1;
        verdict.fails(format!("the image {} is lost", job.sha256));
    }
    Ok(())
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
