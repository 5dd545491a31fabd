//! Strategies that make any message.

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
    PerceptualHash,
    arbitrary::{
        cursor, digest, error_code, filter, job_id, job_record, job_result, limits, owner,
        priority, server_id, timestamp, whose,
    },
};
use proptest::{collection::vec, option, prelude::*};

fn request() -> impl Strategy<Value = Request> {
    any::<u64>().prop_map(|req| Request { req })
}

fn job_request() -> impl Strategy<Value = JobRequest> {
    (any::<u64>(), job_id()).prop_map(|(req, job)| JobRequest { req, job })
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<u32>(), any::<String>(), any::<Option<String>>()).prop_map(
        |(version, program, token)| Hello {
            version,
            program,
            token,
        },
    )
}

fn submit() -> impl Strategy<Value = Submit> {
    let numbers = (any::<u64>(), any::<u64>(), priority(), any::<bool>());
    (numbers, job_id(), any::<String>(), digest()).prop_map(
        |((req, size, priority, watch), job, name, sha256)| Submit {
            req,
            job,
            name,
            size,
            sha256,
            priority,
            watch,
        },
    )
}

fn watch() -> impl Strategy<Value = Watch> {
    (any::<u64>(), vec(job_id(), 0..8)).prop_map(|(req, jobs)| Watch { req, jobs })
}

fn history() -> impl Strategy<Value = HistoryRequest> {
    let place = (any::<u32>(), option::of(cursor()));
    (any::<u64>(), place, filter(), option::of(whose())).prop_map(
        |(req, (limit, after), filter, owner)| HistoryRequest {
            req,
            limit,
            after,
            filter,
            owner,
        },
    )
}

/// Any message of this name from a client.
pub(crate) fn client(name: &str) -> BoxedStrategy<ClientMessage> {
    match name {
        "hello" => hello().prop_map(ClientMessage::Hello).boxed(),
        "submit" => submit().prop_map(ClientMessage::Submit).boxed(),
        "watch" => watch().prop_map(ClientMessage::Watch).boxed(),
        "history" => history().prop_map(ClientMessage::History).boxed(),
        "show" => job_request().prop_map(ClientMessage::Show).boxed(),
        "status" => request().prop_map(ClientMessage::Status).boxed(),
        "fetch" => job_request().prop_map(ClientMessage::Fetch).boxed(),
        "cancel" => job_request().prop_map(ClientMessage::Cancel).boxed(),
        "delete" => job_request().prop_map(ClientMessage::Delete).boxed(),
        "reanalyze" => (
            any::<u64>(),
            vec((job_id(), any::<u32>()), 0..8),
            priority(),
        )
            .prop_map(|(req, runs, priority)| {
                let runs = runs.into_iter().map(|(job, run)| RunOf { job, run });
                let runs = runs.collect();
                ClientMessage::Reanalyze(Reanalyze {
                    req,
                    runs,
                    priority,
                })
            })
            .boxed(),
        "runs" => (any::<u64>(), job_id(), any::<Option<u32>>())
            .prop_map(|(req, job, before)| ClientMessage::Runs(RunsRequest { req, job, before }))
            .boxed(),
        "similar" => (
            any::<u64>(),
            option::of(job_id()),
            option::of(digest()),
            any::<(u32, u32)>(),
        )
            .prop_map(|(req, of_job, of_image, (distance, limit))| {
                ClientMessage::Similar(SimilarRequest {
                    req,
                    of_job,
                    of_image,
                    distance,
                    limit,
                })
            })
            .boxed(),
        "ping" => request().prop_map(ClientMessage::Ping).boxed(),
        _ => panic!("no strategy for {name:?}"),
    }
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (
        any::<u32>(),
        any::<String>(),
        server_id(),
        owner(),
        limits(),
    )
        .prop_map(|(version, program, server, owner, limits)| Welcome {
            version,
            program,
            server,
            owner,
            limits,
        })
}

fn accepted() -> impl Strategy<Value = Accepted> {
    (any::<u64>(), job_id(), any::<bool>(), timestamp()).prop_map(
        |(req, job, duplicate, submitted_at)| Accepted {
            req,
            job,
            duplicate,
            submitted_at,
        },
    )
}

fn rejected() -> impl Strategy<Value = Rejected> {
    let optional = (option::of(job_id()), any::<Option<u64>>());
    (any::<u64>(), optional, error_code(), any::<String>()).prop_map(
        |(req, (job, retry_after_ms), code, text)| Rejected {
            req,
            job,
            code,
            text,
            retry_after_ms,
        },
    )
}

fn result() -> impl Strategy<Value = JobEnd> {
    (job_id(), digest(), job_result()).prop_map(|(job, sha256, result)| JobEnd {
        job,
        sha256,
        result,
    })
}

fn page() -> impl Strategy<Value = Page> {
    let jobs = vec(job_record(), 0..4);
    (any::<u64>(), jobs, option::of(cursor()), any::<bool>()).prop_map(
        |(req, jobs, next, partial)| Page {
            req,
            jobs,
            next,
            partial,
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let queue = any::<(u64, u64, u64)>().prop_map(|(queued, running, dead)| QueueStatus {
        queued,
        running,
        dead,
    });
    let numbers = any::<[u64; 6]>();
    let rest = (option::of(queue), any::<bool>());
    (server_id(), any::<String>(), numbers, rest).prop_map(
        |(
            server,
            program,
            [req, uptime_ms, connections, spool, waiting, oldest_ms],
            (queue, database),
        )| Status {
            req,
            server,
            program,
            uptime_ms,
            connections,
            spool,
            waiting,
            oldest_ms,
            queue,
            database,
        },
    )
}

fn reanalyzing() -> impl Strategy<Value = Reanalyzing> {
    let refused = (job_id(), error_code(), any::<String>());
    let refused = refused.prop_map(|(job, code, text)| RefusedRun { job, code, text });
    (any::<u64>(), vec(job_id(), 0..8), vec(refused, 0..4)).prop_map(|(req, accepted, refused)| {
        Reanalyzing {
            req,
            accepted,
            refused,
        }
    })
}

fn image() -> impl Strategy<Value = Image> {
    (any::<u64>(), job_id(), any::<String>(), digest()).prop_map(|(req, job, name, sha256)| Image {
        req,
        job,
        name,
        sha256,
    })
}

/// Any message of this name from a server.
pub(crate) fn server(name: &str) -> BoxedStrategy<ServerMessage> {
    let job = || (any::<u64>(), job_id());
    match name {
        "welcome" => welcome().prop_map(ServerMessage::Welcome).boxed(),
        "accepted" => accepted().prop_map(ServerMessage::Accepted).boxed(),
        "send_body" => job()
            .prop_map(|(req, job)| ServerMessage::SendBody(SendBody { req, job }))
            .boxed(),
        "rejected" => rejected().prop_map(ServerMessage::Rejected).boxed(),
        "result" => result().prop_map(ServerMessage::Result).boxed(),
        "watching" => (any::<u64>(), vec(job_id(), 0..8))
            .prop_map(|(req, unknown)| ServerMessage::Watching(Watching { req, unknown }))
            .boxed(),
        "page" => page().prop_map(ServerMessage::Page).boxed(),
        "job" => (any::<u64>(), job_record())
            .prop_map(|(req, record)| ServerMessage::Job(JobAnswer { req, record }))
            .boxed(),
        "status" => status().prop_map(ServerMessage::Status).boxed(),
        "image" => image().prop_map(ServerMessage::Image).boxed(),
        "cancelled" => job()
            .prop_map(|(req, job)| ServerMessage::Cancelled(Cancelled { req, job }))
            .boxed(),
        "deleted" => job()
            .prop_map(|(req, job)| ServerMessage::Deleted(Deleted { req, job }))
            .boxed(),
        "reanalyzing" => reanalyzing().prop_map(ServerMessage::Reanalyzing).boxed(),
        "runs" => (job(), vec(job_result(), 0..4), any::<bool>())
            .prop_map(|((req, job), results, more)| {
                ServerMessage::Runs(Runs {
                    req,
                    job,
                    results,
                    more,
                })
            })
            .boxed(),
        "similar" => (
            job(),
            digest(),
            any::<u64>(),
            vec(job_record(), 0..3),
            any::<bool>(),
        )
            .prop_map(|((req, job), sha256, bits, records, more)| {
                let similar = |record| SimilarJob {
                    distance: 3,
                    record,
                };
                ServerMessage::Similar(Similar {
                    req,
                    job,
                    sha256,
                    perceptual_hash: PerceptualHash::from_bits(bits),
                    jobs: records.into_iter().map(similar).collect(),
                    more,
                })
            })
            .boxed(),
        "pong" => request().prop_map(ServerMessage::Pong).boxed(),
        "goodbye" => (error_code(), any::<String>())
            .prop_map(|(code, text)| ServerMessage::Goodbye(Goodbye { code, text }))
            .boxed(),
        _ => panic!("no strategy for {name:?}"),
    }
}
