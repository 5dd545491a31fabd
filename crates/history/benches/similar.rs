//! How long it takes to find what looks alike among a million images.
//!
//! `cargo bench -p imgsys-history --bench similar` prints a line for each distance. Hashes are even
//! chance, as those of unrelated photographs nearly are, but for crowds of alike ones.

use imgsys_history::{Reader, connect, migrate};
use imgsys_local::{TestPostgres, Tuning};
use imgsys_types::{JobId, Owner, PerceptualHash};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// One in fifty differs in up to six bits from the one whose number is the next multiple of fifty.
const ROWS: &str = "
    INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence, state, priority,
                      sha256, owner, name, label, analyzer, analyzer_version, perceptual_hash)
    SELECT md5('job ' || n)::uuid, md5('server')::uuid, at, at, 234567, 0, 90.123456, 'done', 5,
           sha256(n::text::bytea), 'local', 'photos/2025/IMG_' || n || '.jpg', 'tabby cat', 'onnx',
           '1+01234567',
           CASE WHEN n % 50 = 1
                THEN ('x' || substr(md5((n / 50 * 50)::text), 1, 16))::bit(64)::bigint
                     # (1::bigint << n / 50 % 16) # (1::bigint << 20 + n / 50 % 17)
                ELSE ('x' || substr(md5(n::text), 1, 16))::bit(64)::bigint END
    FROM generate_series(1, 1000000) AS n,
         LATERAL (SELECT timestamptz 'epoch' + n * interval '1 s' AS at) AS t;
    INSERT INTO predictions (job_id, run, finished_at, queued_us, analysis_us, attempts, confidence,
                             state, analyzer, analyzer_version, label, scores, properties)
    SELECT id, 0, finished_at, 1, 1, 1, confidence, 'done', analyzer, analyzer_version, label, '[]',
           '{\"format\": \"jpeg\", \"width\": 1920, \"height\": 1080}'
    FROM jobs;
    VACUUM ANALYZE jobs, predictions";

const ASKED: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = TestPostgres::start_tuned(Tuning::Durable)?;
    let url = server.url();
    let mut client = connect(&url)?;
    migrate(&mut client)?;
    let start = Instant::now();
    for statement in ROWS.split(';') {
        client.batch_execute(statement)?;
    }
    let sizes = client.query_one(
        "SELECT count(*), pg_relation_size('jobs'), pg_relation_size('jobs_by_hash_0')
         FROM jobs",
        &[],
    )?;
    let mib = |column| sizes.get::<_, i64>(column) >> 20;
    println!(
        "{} rows in {:.0?}: {} MiB, and {} MiB for the index over each band",
        sizes.get::<_, i64>(0),
        start.elapsed(),
        mib(1),
        mib(2)
    );
    let hashes = client.query(
        "SELECT perceptual_hash FROM jobs WHERE abs(hashtext(name)) % 1000 = 1 LIMIT $1",
        &[&i64::try_from(ASKED)?],
    )?;
    let hashes = hashes
        .iter()
        .map(|row| row.get::<_, i64>(0).cast_unsigned());
    let hashes: Vec<PerceptualHash> = hashes.map(PerceptualHash::from_bits).collect();
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'jobs'";
    let scanned: i64 = client.query_one(scans, &[])?.get(0);
    let runtime = Runtime::new()?;
    let reader = Reader::new(&url, 1)?;
    let owner = Owner::local();
    for distance in [0, 4, 8, 10] {
        let mut times = Vec::new();
        let mut found = 0;
        for &hash in &hashes {
            let start = Instant::now();
            let search = reader.similar(&owner, hash, distance, JobId::generate(), 20);
            found += runtime.block_on(search)?.len();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let percentile = |percent: usize| -> Duration {
            let last = times.len().saturating_sub(1);
            times.get(last * percent / 100).copied().unwrap_or_default()
        };
        println!(
            "distance {distance:2}: p50 {:.2?}, p99 {:.2?}, {found} found for {} images",
            percentile(50),
            percentile(99),
            hashes.len()
        );
    }
    // Statistics of a connection come in when it ends.
    drop((reader, runtime));
    std::thread::sleep(Duration::from_secs(1));
    let scanned = client.query_one(scans, &[])?.get::<_, i64>(0) - scanned;
    println!("{scanned} of these searches read all rows");
    Ok(())
}
