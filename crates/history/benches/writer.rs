//! How fast events become rows, and what that costs here and in PostgreSQL.
//!
//! `cargo bench -p imgsys-history --bench writer` prints a line for each way in which events may come,
//! and what the indexes cost by which images that look alike are found: with and without, in turn.

use imgsys_history::{Writer, connect, migrate};
use imgsys_local::{TestPostgres, Tuning};
use imgsys_types::{
    Analysis, Analyzer, Digest, Job, JobId, JobRecord, JobResult, Outcome, Owner, PerceptualHash,
    Priority, Properties, Score, ServerId, Timestamp,
};
use std::{
    fs,
    time::{Duration, Instant},
};

const JOBS: usize = 50_000;
const BATCH: usize = 1000;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let server = TestPostgres::start_tuned(Tuning::Durable)?;
    let url = server.url();
    migrate(&mut connect(&url)?)?;
    let (accepted, finished) = (events(false), events(true));
    let both: Vec<JobRecord> = accepted
        .iter()
        .zip(&finished)
        .flat_map(|(accepted, finished)| [accepted.clone(), finished.clone()])
        .collect();
    measure(&url, "accepted and finished in one batch", &both)?;
    connect(&url)?.batch_execute("TRUNCATE jobs")?;
    measure(&url, "accepted", &accepted)?;
    measure(&url, "finished, after accepted", &finished)?;
    measure(&url, "finished, once more", &finished)?;
    connect(&url)?.batch_execute("TRUNCATE jobs")?;
    measure(&url, "finished only", &finished)?;
    hash_indexes(&url, &both)
}

/// The same rows with and without the four indexes of bands of the perceptual hash.
fn hash_indexes(url: &str, both: &[JobRecord]) -> Done {
    let mut client = connect(url)?;
    let indexes =
        "SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'jobs_by_hash_%'";
    let indexes = client.query(indexes, &[])?;
    for _ in 0..3 {
        client.batch_execute("TRUNCATE jobs")?;
        measure(url, "both, with indexes of hashes", both)?;
        client.batch_execute("TRUNCATE jobs")?;
        for index in &indexes {
            client.batch_execute(&format!("DROP INDEX {}", index.get::<_, &str>(0)))?;
        }
        measure(url, "both, without them", both)?;
        for index in &indexes {
            client.batch_execute(index.get(1))?;
        }
    }
    Ok(())
}

fn measure(url: &str, what: &str, events: &[JobRecord]) -> Done {
    let mut writer = Writer::connect(url)?;
    let mut client = connect(url)?;
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'imgsys-persister'";
    let backend: i32 = client.query_one(backend, &[])?.get(0);
    let before = (cpu("self")?, cpu(&backend.to_string())?);
    let start = Instant::now();
    for batch in events.chunks(BATCH) {
        let _ = writer.write(&batch.iter().collect::<Vec<_>>())?;
    }
    let elapsed = start.elapsed();
    let after = (cpu("self")?, cpu(&backend.to_string())?);
    let count = u32::try_from(events.len())?;
    println!(
        "{what:36} {:7.0} events/s   CPU an event: {:5.1} µs here, {:5.1} µs in PostgreSQL",
        f64::from(count) / elapsed.as_secs_f64(),
        micros(after.0.saturating_sub(before.0)) / f64::from(count),
        micros(after.1.saturating_sub(before.1)) / f64::from(count),
    );
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The processor time of a process.
fn cpu(process: &str) -> Result<Duration, Box<dyn std::error::Error>> {
    // The fields after the name: utime and stime are the 12th and 13th, in ticks of 10 ms.
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit_once(") ").ok_or("no such process")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}

/// Hashes of images that don't look alike: a step of `SplitMix64`.
fn scattered(number: usize) -> u64 {
    let mut bits = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^ (bits >> 27)
}

fn events(finished: bool) -> Vec<JobRecord> {
    let server = ServerId::from_bytes([1; 16]);
    let event = |number: usize| {
        let mut bytes = [0; 16];
        // In the order of time, as ids of version 7 are.
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let digest = |byte| Digest::from_bytes([byte; 32]);
        let score = |rank: u32| Score {
            label: format!("label-{rank}"),
            confidence: 90.123_456 / f64::from(rank + 1),
        };
        let result = JobResult {
            run: 0,
            outcome: Outcome::Done(Analysis {
                analyzer: Analyzer {
                    name: "simulated".into(),
                    version: "1".into(),
                    model: Some(digest(2)),
                },
                label: format!("label-{}", number % 100),
                confidence: 90.123_456,
                scores: (0..5).map(score).collect(),
                properties: Properties {
                    format: "jpeg".into(),
                    width: 1920,
                    height: 1080,
                    perceptual_hash: Some(PerceptualHash::from_bits(scattered(number))),
                    ..Properties::default()
                },
            }),
            worker: Some("imgsys-0123456789@host".into()),
            attempts: 1,
            queued_us: 12_345,
            analysis_us: 6_789,
            finished_at: Timestamp::now(),
        };
        JobRecord {
            job: Job {
                id: JobId::from_bytes(bytes),
                owner: Owner::local(),
                sha256: digest(3),
                name: format!("photos/2025/IMG_{number:06}.jpg"),
                size: 234_567,
                priority: Priority::default(),
                submitted_at: Timestamp::now(),
                server,
            },
            result: finished.then_some(result),
        }
    };
    (0..JOBS).map(event).collect()
}
