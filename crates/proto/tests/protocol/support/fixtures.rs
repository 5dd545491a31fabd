//! One fixed value of each message, with every key set.

use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{
        Accepted, Cancelled, Deleted, Goodbye, Hello, HistoryRequest, Image, JobAnswer, JobEnd,
        JobRequest, Page, QueueStatus, Reanalyze, Reanalyzing, RefusedRun, Rejected, Request,
        RunOf, Runs, RunsRequest, SendBody, Similar, SimilarJob, SimilarRequest, Status, Submit,
        Watch, Watching, Welcome,
    },
};
use imgsys_types::{
    Analysis, Analyzer, Color, Cursor, Digest, ErrorCode, Exif, Exposure, Failure, FailureReason,
    Gps, HistoryFilter, Job, JobId, JobRecord, JobResult, JobState, Limits, Outcome, Owner,
    PerceptualHash, Priority, Properties, Scalar, Score, ServerId, Timestamp, Whose,
};

/// A message, its body and the name of its file.
#[derive(Debug)]
pub(crate) struct Fixture<M> {
    pub(crate) file: &'static str,
    pub(crate) message: M,
    pub(crate) body: &'static [u8],
}

fn fixture<M>(file: &'static str, message: M) -> Fixture<M> {
    Fixture {
        file,
        message,
        body: b"",
    }
}

/// The body of `submit` and `image`.
pub(crate) const BODY: &[u8] = b"not an image\n";

fn sha256() -> Digest {
    "c04bee9d659201c6647cbc29f7c2e1556b8370c54f4a50a32d84ceab2fddf6cd"
        .parse()
        .unwrap()
}

fn job_id() -> JobId {
    "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c".parse().unwrap()
}

fn other_job_id() -> JobId {
    "0197f3a2-7c4f-7c00-8000-00000000000a".parse().unwrap()
}

fn server_id() -> ServerId {
    "6f1c0d9e-52b8-4a7f-8e43-0a1b2c3d4e5f".parse().unwrap()
}

fn submitted_at() -> Timestamp {
    Timestamp::from_micros(1_764_000_000_123_456)
}

fn priority() -> Priority {
    Priority::new(3).unwrap()
}

/// As it was before there was more to say of an image, and still is for an analyzer that says no
/// more.
fn short_analysis() -> Analysis {
    let score = |label: &str, confidence| Score {
        label: label.into(),
        confidence,
    };
    let extra = [
        ("panorama", Scalar::Bool(false)),
        ("sharpness", Scalar::Number(0.1)),
        ("camera", Scalar::Text("Pinhole".into())),
    ];
    Analysis {
        analyzer: Analyzer {
            name: "simulated".into(),
            version: "1".into(),
            model: Some(sha256()),
        },
        label: "tabby cat".into(),
        confidence: 87.5,
        scores: vec![score("tabby cat", 87.5), score("lynx", 3.25)],
        properties: Properties {
            format: "jpeg".into(),
            width: 4032,
            height: 3024,
            extra: extra
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect(),
            ..Properties::default()
        },
    }
}

fn analysis() -> Analysis {
    let short = short_analysis();
    let color = |rgb: &str, share| Color {
        rgb: rgb.into(),
        share,
    };
    let exif = Exif {
        camera: Some("Example X100".into()),
        lens: Some("Example 23mm F2".into()),
        taken_at: Some("2026-05-01T17:30:00+02:00".into()),
        exposure_time: Some(0.004),
        f_number: Some(5.6),
        iso: Some(200),
        focal_length: Some(23.5),
        gps: Some(Gps {
            latitude: 52.520_008,
            longitude: 13.404_954,
            altitude: Some(34.5),
        }),
    };
    let properties = Properties {
        color_type: Some("rgb".into()),
        bit_depth: Some(8),
        frames: Some(1),
        sharpness: Some(312.5),
        exposure: Some(Exposure {
            mean: 41.25,
            shadows: 12.5,
            highlights: 0.75,
        }),
        colors: vec![color("#2a1b0c", 60.5), color("#e0d0c0", 20.25)],
        perceptual_hash: Some(PerceptualHash::from_bits(0xfedc_ba98_7654_3210)),
        thumb_hash: Some("3OcRJYB4d3h/iIeHeEh3eIhw+j3A".into()),
        exif: Some(exif),
        flags: vec!["dark".into()],
        ..short.properties
    };
    Analysis {
        properties,
        ..short
    }
}

fn done_short() -> JobResult {
    JobResult {
        outcome: Outcome::Done(short_analysis()),
        ..done()
    }
}

fn done() -> JobResult {
    JobResult {
        run: 1,
        outcome: Outcome::Done(analysis()),
        worker: Some("imgsys@worker-1".into()),
        attempts: 2,
        queued_us: 1_500,
        analysis_us: 42_000,
        finished_at: Timestamp::from_micros(1_764_000_000_166_956),
    }
}

fn failed() -> JobResult {
    let failure = Failure::new(FailureReason::Truncated, "the image ends after 13 bytes");
    JobResult {
        run: 0,
        outcome: Outcome::Failed(failure),
        worker: None,
        attempts: 1,
        queued_us: 900,
        analysis_us: 70,
        finished_at: Timestamp::from_micros(1_764_000_000_124_426),
    }
}

fn record() -> JobRecord {
    JobRecord {
        job: Job {
            id: job_id(),
            owner: Owner::local(),
            sha256: sha256(),
            name: "photos/Kätzchen.jpg".into(),
            size: BODY.len() as u64,
            priority: priority(),
            submitted_at: submitted_at(),
            server: server_id(),
        },
        result: Some(done()),
    }
}

fn cursor() -> Cursor {
    Cursor {
        submitted_at: submitted_at(),
        job: job_id(),
    }
}

fn submit() -> ClientMessage {
    ClientMessage::Submit(Submit {
        req: 1,
        job: job_id(),
        name: "photos/Kätzchen.jpg".into(),
        size: BODY.len() as u64,
        sha256: sha256(),
        priority: priority(),
        watch: true,
    })
}

/// Every message from a client.
pub(crate) fn client() -> Vec<Fixture<ClientMessage>> {
    use ClientMessage as M;
    let job_request = |req| JobRequest { req, job: job_id() };
    let hello = M::Hello(Hello {
        version: 1,
        program: "imgsys 0.1.0".into(),
        token: Some("open sesame".into()),
    });
    let watch = M::Watch(Watch {
        req: 2,
        jobs: vec![job_id(), other_job_id()],
    });
    // As it was before there was more to choose by.
    let filter = HistoryFilter {
        since: Some(Timestamp::from_micros(1_763_900_000_000_000)),
        until: Some(submitted_at()),
        label: Some("tabby cat".into()),
        min_confidence: Some(62.5),
        state: Some(JobState::Done),
        name: Some("photos/".into()),
        ..HistoryFilter::default()
    };
    let history = |filter, owner| {
        M::History(HistoryRequest {
            req: 3,
            limit: 50,
            after: Some(cursor()),
            filter,
            owner,
        })
    };
    let short = history(filter.clone(), None);
    let filter = HistoryFilter {
        analyzer: Some("simulated".into()),
        except_version: Some("2".into()),
        except_model: Some(sha256()),
        ..filter
    };
    // And before there were others' jobs to choose from.
    let own = history(filter.clone(), None);
    let history = history(filter, Some(Whose::All));
    let run = |job, run| RunOf { job, run };
    let reanalyze = M::Reanalyze(Reanalyze {
        req: 9,
        runs: vec![run(job_id(), 2), run(other_job_id(), 1)],
        priority: priority(),
    });
    let runs = M::Runs(RunsRequest {
        req: 10,
        job: job_id(),
        before: Some(2),
    });
    let similar = |of_job, of_image| {
        M::Similar(SimilarRequest {
            req: 11,
            of_job,
            of_image,
            distance: 6,
            limit: 20,
        })
    };
    vec![
        fixture("hello", hello),
        fixture("submit", submit()),
        Fixture {
            file: "submit-with-body",
            message: submit(),
            body: BODY,
        },
        fixture("watch", watch),
        fixture("history", history),
        fixture("history-own", own),
        fixture("history-short", short),
        fixture("show", M::Show(job_request(4))),
        fixture("status", M::Status(Request { req: 5 })),
        fixture("fetch", M::Fetch(job_request(6))),
        fixture("cancel", M::Cancel(job_request(7))),
        fixture("delete", M::Delete(job_request(9))),
        fixture("reanalyze", reanalyze),
        fixture("runs", runs),
        // With both it is no request that a server takes, but every key is in it.
        fixture("similar", similar(Some(job_id()), Some(sha256()))),
        fixture("similar-image", similar(None, Some(sha256()))),
        fixture("similar-job", similar(Some(job_id()), None)),
        fixture("ping", M::Ping(Request { req: 8 })),
    ]
}

fn status() -> ServerMessage {
    ServerMessage::Status(Status {
        req: 5,
        server: server_id(),
        program: "imgsys-server 0.1.0".into(),
        uptime_ms: 86_400_000,
        connections: 3,
        spool: 120,
        waiting: 20,
        oldest_ms: 1_250,
        queue: Some(QueueStatus {
            queued: 96,
            running: 4,
            dead: 0,
        }),
        database: true,
    })
}

fn rejected() -> ServerMessage {
    ServerMessage::Rejected(Rejected {
        req: 1,
        job: Some(job_id()),
        code: ErrorCode::DiskFull,
        text: "the server's disk is full; try again later".into(),
        retry_after_ms: Some(5_000),
    })
}

fn reanalyzing() -> ServerMessage {
    let refused = RefusedRun {
        job: other_job_id(),
        code: ErrorCode::ImageMissing,
        text: "the image is not kept any more".into(),
    };
    ServerMessage::Reanalyzing(Reanalyzing {
        req: 9,
        accepted: vec![job_id()],
        refused: vec![refused],
    })
}

fn runs() -> ServerMessage {
    ServerMessage::Runs(Runs {
        req: 10,
        job: job_id(),
        results: vec![done(), failed()],
        more: true,
    })
}

fn similar() -> ServerMessage {
    ServerMessage::Similar(Similar {
        req: 11,
        job: other_job_id(),
        sha256: sha256(),
        perceptual_hash: PerceptualHash::from_bits(0xfedc_ba98_7654_3213),
        jobs: vec![SimilarJob {
            distance: 2,
            record: record(),
        }],
        more: true,
    })
}

/// Every message from a server.
pub(crate) fn server() -> Vec<Fixture<ServerMessage>> {
    use ServerMessage as M;
    let job = job_id();
    let result = |result| {
        M::Result(JobEnd {
            job,
            sha256: sha256(),
            result,
        })
    };
    let welcome = M::Welcome(Welcome {
        version: 1,
        program: "imgsys-server 0.1.0".into(),
        server: server_id(),
        owner: Owner::local(),
        limits: Limits::default(),
    });
    let accepted = M::Accepted(Accepted {
        req: 1,
        job,
        duplicate: false,
        submitted_at: submitted_at(),
    });
    let unknown = vec![other_job_id()];
    let page = M::Page(Page {
        req: 3,
        jobs: vec![record()],
        next: Some(cursor()),
        partial: true,
    });
    let show = M::Job(JobAnswer {
        req: 4,
        record: record(),
    });
    let image = M::Image(Image {
        req: 6,
        job,
        name: "photos/Kätzchen.jpg".into(),
        sha256: sha256(),
    });
    let goodbye = M::Goodbye(Goodbye {
        code: ErrorCode::ShuttingDown,
        text: "the server is going down".into(),
    });
    vec![
        fixture("welcome", welcome),
        fixture("accepted", accepted),
        fixture("send_body", M::SendBody(SendBody { req: 1, job })),
        fixture("rejected", rejected()),
        fixture("result", result(done())),
        fixture("result-short", result(done_short())),
        fixture("result-failed", result(failed())),
        fixture("watching", M::Watching(Watching { req: 2, unknown })),
        fixture("page", page),
        fixture("job", show),
        fixture("status", status()),
        Fixture {
            file: "image",
            message: image,
            body: BODY,
        },
        fixture("cancelled", M::Cancelled(Cancelled { req: 7, job })),
        fixture("deleted", M::Deleted(Deleted { req: 9, job })),
        fixture("reanalyzing", reanalyzing()),
        fixture("runs", runs()),
        fixture("similar", similar()),
        fixture("pong", M::Pong(Request { req: 8 })),
        fixture("goodbye", goodbye),
    ]
}
