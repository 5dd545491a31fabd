//! The messages. In CBOR each is a map with one key, the message's name; its value is a map too.
//!
//! Requests carry `req`, a number of the client's choice, and answers repeat it. Keys that a
//! reader does not know are passed over; keys marked optional may be left out.

mod similar;

pub use similar::{Similar, SimilarJob, SimilarRequest};

use imgsys_types::{
    Cursor, Digest, ErrorCode, HistoryFilter, JobId, JobRecord, JobResult, Limits, Owner, Priority,
    ServerId, Timestamp, Whose,
};
use serde::{Deserialize, Serialize};

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// The first message of a connection.
    Hello(Hello),
    /// Take this image. With a body, or without one to ask whether the bytes are needed.
    Submit(Submit),
    /// Tell me how these jobs end.
    Watch(Watch),
    /// Show a page of the history.
    History(HistoryRequest),
    /// Show one job.
    Show(JobRequest),
    /// Show how the server is doing.
    Status(Request),
    /// Give me a job's image.
    Fetch(JobRequest),
    /// End a job that has not ended yet.
    Cancel(JobRequest),
    /// Erase a job that has ended, and its image.
    Delete(JobRequest),
    /// Analyse these jobs once more.
    Reanalyze(Reanalyze),
    /// Show what the runs of a job came to.
    Runs(RunsRequest),
    /// Show images that look like this one.
    Similar(SimilarRequest),
    /// Are you there?
    Ping(Request),
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answers `hello`.
    Welcome(Welcome),
    /// The image and its job are on the server's disk and will not be lost.
    Accepted(Accepted),
    /// The bytes are needed: submit again, with them.
    SendBody(SendBody),
    /// A request was refused.
    Rejected(Rejected),
    /// A job that was submitted or is watched on this connection has ended.
    Result(JobEnd),
    /// Answers `watch`, before the first `result` for it.
    Watching(Watching),
    /// Answers `history`.
    Page(Page),
    /// Answers `show`.
    Job(JobAnswer),
    /// Answers `status`.
    Status(Status),
    /// Answers `fetch`; the body is the image.
    Image(Image),
    /// Answers `cancel`: the job has ended as failed, with the reason `cancelled`.
    Cancelled(Cancelled),
    /// Answers `delete`: the job is out of the history, and its image gone if no other job has it.
    Deleted(Deleted),
    /// Answers `reanalyze`: the runs that were accepted will not be lost.
    Reanalyzing(Reanalyzing),
    /// Answers `runs`.
    Runs(Runs),
    /// Answers `similar`.
    Similar(Similar),
    /// Answers `ping`.
    Pong(Request),
    /// The last message of a connection.
    Goodbye(Goodbye),
}

/// Opens a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version: [`crate::VERSION`].
    pub version: u32,
    /// The client's program and version, for the server's log.
    #[serde(default)]
    pub program: String,
    /// The secret that says whose the connection is.
    #[serde(default)]
    pub token: Option<String>,
}

/// A request without more to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The request's number.
    pub req: u64,
}

/// A request about one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
}

/// Hands in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// The request's number.
    pub req: u64,
    /// The job's name, made by the client and kept when it submits the same image again after a
    /// lost connection.
    pub job: JobId,
    /// The image's name, for people.
    pub name: String,
    /// The image's size in bytes. The body is either empty or of this size.
    pub size: u64,
    /// The SHA-256 of the image.
    pub sha256: Digest,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Whether the client wants the `result` on this connection.
    #[serde(default = "yes")]
    pub watch: bool,
}

fn yes() -> bool {
    true
}

/// Asks for the results of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The request's number.
    pub req: u64,
    /// The jobs.
    pub jobs: Vec<JobId>,
}

/// Asks for a page of the history, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The request's number.
    pub req: u64,
    /// Jobs on the page, at most; the server's own limit holds too.
    pub limit: u32,
    /// Where the page before this one ended.
    #[serde(default)]
    pub after: Option<Cursor>,
    /// Which jobs.
    #[serde(default)]
    pub filter: HistoryFilter,
    /// Whose, if not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Whose>,
}

/// Asks for later runs of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reanalyze {
    /// The request's number.
    pub req: u64,
    /// The jobs and which of their runs, at most [`Reanalyze::MAX`].
    pub runs: Vec<RunOf>,
    /// How urgent it is.
    #[serde(default = "last")]
    pub priority: Priority,
}

impl Reanalyze {
    /// The most runs in a request: so many refusals fit into an answer.
    pub const MAX: usize = 256;
}

/// A run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOf {
    /// The job.
    pub job: JobId,
    /// The run that is wanted, one more than the newest; named, so that it is asked for again
    /// without harm.
    pub run: u32,
}

/// What has been there already must not wait for what comes again.
fn last() -> Priority {
    Priority::new(Priority::MAX).unwrap_or_default()
}

/// Asks what the runs of a job came to, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsRequest {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
    /// Only runs before this one.
    #[serde(default)]
    pub before: Option<u32>,
}

/// Greets a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol's version.
    pub version: u32,
    /// The server's program and version.
    pub program: String,
    /// Which server this is.
    pub server: ServerId,
    /// Whose the connection is.
    pub owner: Owner,
    /// What the client is held to.
    pub limits: Limits,
}

/// An image is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
    /// Whether this owner had sent the same image before, under whatever name.
    pub duplicate: bool,
    /// When it was accepted, by the server's clock.
    pub submitted_at: Timestamp,
}

/// An image's bytes are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendBody {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
}

/// A request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The request's number.
    pub req: u64,
    /// The job, if the request was about one.
    #[serde(default)]
    pub job: Option<JobId>,
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why and what to do, for people.
    pub text: String,
    /// When to try again at the earliest, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// A job has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEnd {
    /// The job.
    pub job: JobId,
    /// The image's SHA-256.
    pub sha256: Digest,
    /// What became of it.
    pub result: JobResult,
}

/// Jobs are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// The request's number.
    pub req: u64,
    /// Those of them that this owner never sent.
    pub unknown: Vec<JobId>,
}

/// A page of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The request's number.
    pub req: u64,
    /// The jobs, newest first.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins; absent on the last one.
    #[serde(default)]
    pub next: Option<Cursor>,
    /// Whether the database could not be asked, so that only jobs of the server's own spool are here.
    #[serde(default)]
    pub partial: bool,
}

/// A job, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobAnswer {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub record: JobRecord,
}

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The request's number.
    pub req: u64,
    /// Which server this is.
    pub server: ServerId,
    /// Its program and version.
    pub program: String,
    /// How long it has been up, in milliseconds.
    pub uptime_ms: u64,
    /// Connections, this one included.
    pub connections: u64,
    /// Accepted jobs that are not in the database yet.
    pub spool: u64,
    /// Those of them that wait for a place in Redis.
    pub waiting: u64,
    /// How long the oldest job without a result has waited, in milliseconds.
    pub oldest_ms: u64,
    /// The queue; absent while Redis is away.
    #[serde(default)]
    pub queue: Option<QueueStatus>,
    /// Whether the database answers.
    pub database: bool,
}

/// How the queue is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Tasks that no worker has taken yet.
    pub queued: u64,
    /// Tasks that workers hold.
    pub running: u64,
    /// Tasks set aside because nobody could do them.
    pub dead: u64,
}

/// An image; the body follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
    /// The image's name.
    pub name: String,
    /// The image's SHA-256.
    pub sha256: Digest,
}

/// A job was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
}

/// A job was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
}

/// Which runs were accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reanalyzing {
    /// The request's number.
    pub req: u64,
    /// The jobs whose run will come, or has come already.
    pub accepted: Vec<JobId>,
    /// The others.
    pub refused: Vec<RefusedRun>,
}

/// A run that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRun {
    /// The job.
    pub job: JobId,
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why and what to do, for people.
    pub text: String,
}

/// What runs of a job came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// The request's number.
    pub req: u64,
    /// The job.
    pub job: JobId,
    /// The results, newest first.
    pub results: Vec<JobResult>,
    /// Whether there are earlier ones, to be asked for with `before`.
    #[serde(default)]
    pub more: bool,
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people.
    pub text: String,
}
