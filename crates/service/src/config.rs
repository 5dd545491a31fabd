//! The configuration: one TOML file for all programs, a section each.
//!
//! Every key is declared once, here: clap makes its flag, `IMGSYS_<SECTION>_<KEY>` its variable,
//! serde its place in the file. [`crate::load`] puts the three together.

// Each key's doc is the help text of its flag, where back-ticks and angle brackets would show.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

mod celery;
mod images;
mod limits;
mod onnx;
mod tls;

pub use celery::{CeleryConfig, Events};
pub use images::ImagesConfig;
pub use limits::LimitsConfig;
pub use onnx::{Layout, OnnxConfig, Resize};
pub use tls::{DatabaseTls, RedisTls, ServerTls};

use crate::ByteCount;
use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// The whole file.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[server]`
    #[command(flatten)]
    pub server: ServerConfig,
    /// `[worker]`
    #[command(flatten)]
    pub worker: WorkerConfig,
    /// `[celery]`
    #[command(flatten)]
    pub celery: CeleryConfig,
    /// `[persister]`
    #[command(flatten)]
    pub persister: PersisterConfig,
    /// `[redis]`
    #[command(flatten)]
    pub redis: RedisConfig,
    /// `[database]`
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// `[auth]`
    #[command(flatten)]
    pub auth: AuthConfig,
    /// `[limits]`
    #[command(flatten)]
    pub limits: LimitsConfig,
    /// `[log]`
    #[command(flatten)]
    pub log: LogConfig,
}

/// When an accepted image counts as safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On the disk: survives a power cut.
    Fsync,
    /// In the system's page cache: survives the death of a process only; for benchmarks.
    None,
}

/// What the server does.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address on which clients are served; port 0 takes a free one
    #[arg(
        id = "server.listen",
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7450"
    )]
    pub listen: String,
    /// Address of the HTTP side listener (health, metrics, images for workers); port 0 takes a
    /// free one; empty for none
    #[arg(
        id = "server.http_listen",
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7451"
    )]
    pub http_listen: String,
    /// Directory of the spool
    #[arg(
        id = "server.data_dir",
        long,
        value_name = "DIR",
        default_value = "/var/lib/imgsys"
    )]
    pub data_dir: PathBuf,
    /// Directory of the image files [default: images in the data directory]
    #[arg(id = "server.images_dir", long, value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_dir: Option<PathBuf>,
    /// Where workers fetch this server's images: file:///DIR/ or http://HOST:PORT/images/
    /// [default: the image directory as a file URL]
    #[arg(id = "server.image_url", long, value_name = "URL")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// When an image counts as accepted
    #[arg(id = "server.durability", long, value_enum, default_value = "fsync")]
    pub durability: Durability,
    /// Whether images of 128 KiB and more are written past the kernel's cache: it saves processor time
    /// and memory; on a disk that takes milliseconds to read, workers on this machine may be quicker
    /// without
    #[arg(
        id = "server.direct_io",
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value = "true"
    )]
    pub direct_io: bool,
    /// Unfinished jobs of this server in Redis at once; the rest wait in the spool
    #[arg(
        id = "server.dispatch_window",
        long,
        value_name = "N",
        default_value = "4096"
    )]
    pub dispatch_window: usize,
    /// How often the spool is compared with Redis and PostgreSQL
    #[arg(id = "server.sweep_interval", long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// After how long without a result a task that Redis still has is put on the queue once more
    #[arg(id = "server.overdue", long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub overdue: Duration,
    /// How long images are kept after they were last sent, such as 30d; without it, for ever. Only
    /// files go, and none that an unfinished job needs
    #[arg(id = "server.keep_images", long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub keep_images: Option<Duration>,
    /// Space that uploads leave free on the disks of images and spool; below it they are refused
    #[arg(
        id = "server.min_free",
        long,
        value_name = "BYTES",
        default_value = "32MiB"
    )]
    pub min_free: ByteCount,
    /// How long clients may finish what they send after SIGTERM
    #[arg(id = "server.drain", long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// The server's certificate
    #[command(flatten)]
    pub tls: ServerTls,
}

/// Which classifier gives the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierKind {
    /// The model of [worker.onnx] if there is one, simulated labels otherwise.
    Auto,
    /// The model of [worker.onnx].
    Onnx,
    /// A label made from the digest: the same image, the same label; for tests and load.
    Simulated,
}

/// How deep a worker looks into images beyond what its classifier needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// All pixels: damage anywhere in the image is found.
    Full,
    /// Format, size and completeness only: fast, but damaged pixels are not seen; for benchmarks.
    Header,
}

/// What a worker does.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Threads that analyse; 0 for one a core
    #[arg(id = "worker.threads", long, value_name = "N", default_value = "0")]
    pub threads: usize,
    /// Tasks taken from the queue at once, running ones included; 0 for 8 a thread, and for up to 32 while
    /// as many are done within 5 ms
    #[arg(id = "worker.prefetch", long, value_name = "N", default_value = "0")]
    pub prefetch: usize,
    /// URL prefixes under which images are fetched, separated by commas; nothing else is touched
    #[arg(
        id = "worker.image_sources",
        long,
        value_name = "URL",
        value_delimiter = ',',
        default_value = "file:///var/lib/imgsys/images/"
    )]
    pub image_sources: Vec<String>,
    /// How the servers of these images are known, and know the worker
    #[command(flatten)]
    #[serde(default)]
    pub images: ImagesConfig,
    /// Whether image files of 128 KiB and more are read past the kernel's cache, as the server writes
    /// them
    #[arg(
        id = "worker.direct_io",
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value = "true"
    )]
    pub direct_io: bool,
    /// Which classifier gives the label
    #[arg(id = "worker.classifier", long, value_enum, default_value = "auto")]
    pub classifier: ClassifierKind,
    /// The model of the classifier `onnx`
    #[command(flatten)]
    pub onnx: OnnxConfig,
    /// Keep the place where a photograph was taken (EXIF), which is dropped otherwise
    #[arg(id = "worker.keep_gps", long)]
    pub keep_gps: bool,
    /// Analyses kept in Redis, of all workers together, so that an image that was seen before is not
    /// analysed again; 0 for none. What simulated labels are given to is always analysed
    #[arg(id = "worker.cache", long, value_name = "N", default_value = "20000")]
    pub cache: usize,
    /// How deep images are looked into beyond what the classifier needs
    #[arg(id = "worker.decode", long, value_enum, default_value = "full")]
    pub decode: Decode,
    /// How long the simulated classifier takes, beyond its own cost
    #[arg(id = "worker.delay", long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// Threads that may hang in an analysis beyond its time limit; each is replaced at once, and when
    /// more hang the worker drains and ends with an error, to be started anew
    #[arg(id = "worker.max_stuck", long, value_name = "N", default_value = "4")]
    pub max_stuck: usize,
    /// How long a task stays this worker's without a sign of life; all workers of a queue must agree
    #[arg(id = "worker.lease", long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// Attempts to fetch an image whose server is away, before the job fails; the pauses grow to 5 min
    #[arg(
        id = "worker.max_retries",
        long,
        value_name = "N",
        default_value = "20"
    )]
    pub max_retries: u32,
    /// Address of the HTTP side listener (health, metrics); port 0 takes a free one; empty for none
    #[arg(
        id = "worker.http_listen",
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7452"
    )]
    pub http_listen: String,
    /// How long running analyses may go on after SIGTERM
    #[arg(id = "worker.drain", long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// What the persister does.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersisterConfig {
    /// Events read for one transaction, at most
    #[arg(id = "persister.batch", long, value_name = "N", default_value = "1000")]
    pub batch: usize,
    /// How long a transaction waits for more events; four times as long while many come
    #[arg(id = "persister.linger", long, value_name = "TIME", default_value = "50ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// After how long the events that a persister holds unwritten are taken over by another
    #[arg(id = "persister.claim_after", long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub claim_after: Duration,
    /// How long PostgreSQL may take over one transaction before it counts as away
    #[arg(id = "persister.write_timeout", long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Address of the HTTP side listener (health, metrics); port 0 takes a free one; empty for none
    #[arg(
        id = "persister.http_listen",
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7453"
    )]
    pub http_listen: String,
    /// Bring the database's schema up to date at start
    #[arg(id = "persister.migrate", long)]
    pub migrate: bool,
}

/// Where Redis is.
// Its Debug, in `secret`, shows no password.
#[derive(Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Redis: redis://HOST:PORT/DB, rediss://… over TLS, or unix:///PATH?db=N
    #[arg(
        id = "redis.url",
        long,
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub url: String,
    /// File with the password for Redis
    #[arg(id = "redis.password_file", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// What all keys and channels begin with: Celery's broker_transport_options.global_keyprefix
    #[arg(id = "redis.key_prefix", long, value_name = "TEXT", default_value = "")]
    pub key_prefix: String,
    /// What Celery's results begin with: result_backend_transport_options.global_keyprefix
    /// [default: as key_prefix]
    #[arg(id = "redis.result_key_prefix", long, value_name = "TEXT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_key_prefix: Option<String>,
    /// Certificates for rediss://
    #[command(flatten)]
    pub tls: RedisTls,
}

/// Where PostgreSQL is.
// Its Debug, in `secret`, shows no password.
#[derive(Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// PostgreSQL: postgres://USER@HOST/DB?sslmode=verify-full or key=value pairs
    #[arg(
        id = "database.url",
        long,
        value_name = "URL",
        default_value = "host=/run/postgresql user=imgsys dbname=imgsys"
    )]
    pub url: String,
    /// File with the password for PostgreSQL
    #[arg(id = "database.password_file", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Connections of a server, at most
    #[arg(id = "database.pool", long, value_name = "N", default_value = "4")]
    pub pool: usize,
    /// Certificates
    #[command(flatten)]
    pub tls: DatabaseTls,
}

/// Who may use a server.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// File of the tokens, made by `imgsys-server token new`; without one everybody may do everything
    #[arg(id = "auth.tokens_file", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
    /// Listen on addresses that others can reach, even without tokens
    #[arg(id = "auth.insecure", long)]
    pub insecure: bool,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// JSON under systemd, for people otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How log lines look
    #[arg(id = "log.format", long = "format", value_enum, default_value = "auto")]
    pub format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or as in `info,imgsys_server=debug`
    #[arg(
        id = "log.filter",
        long = "filter",
        value_name = "FILTER",
        default_value = "info,celery=warn"
    )]
    pub filter: String,
}
