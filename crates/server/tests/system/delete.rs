//! Deleted jobs are gone, with their images, and stay gone.

use crate::{
    client::{Connection, PATIENCE, send_all, submit},
    images::{Sample, sample},
};
use imgsys_local::Stack;
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{JobRequest, Reanalyze, Request, RunOf, RunsRequest, Watch},
};
use imgsys_types::{ErrorCode, FailureReason, JobId, Outcome, Priority};
use postgres::{Client, NoTls};
use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{task::block_in_place, time::sleep};

fn file(stack: &Stack, image: &Sample) -> PathBuf {
    let digest = image.sha256.to_string();
    let dir = stack.dir().join("server/images");
    dir.join(&digest[..2]).join(&digest)
}

/// The same image as another job.
fn again(image: &Sample) -> Sample {
    Sample {
        job: JobId::generate(),
        ..image.clone()
    }
}

/// Asks until the server does not only say that it comes too early; `None` for `deleted`.
async fn delete(connection: &mut Connection, job: JobId) -> Option<ErrorCode> {
    let deadline = Instant::now() + PATIENCE;
    let message = ClientMessage::Delete(JobRequest { req: 1, job });
    loop {
        match connection.ask(&message).await {
            ServerMessage::Deleted(deleted) => {
                assert_eq!((deleted.req, deleted.job), (1, job));
                return None;
            }
            ServerMessage::Rejected(rejected) if rejected.code.is_transient() => {
                assert!(Instant::now() < deadline, "{}", rejected.text);
                sleep(Duration::from_millis(20)).await;
            }
            ServerMessage::Rejected(rejected) => return Some(rejected.code),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

async fn shown(connection: &mut Connection) -> HashSet<JobId> {
    let history = connection.history().await.unwrap();
    history.iter().map(|record| record.job.id).collect()
}

fn rerun(job: JobId) -> ClientMessage {
    ClientMessage::Reanalyze(Reanalyze {
        req: 3,
        runs: vec![RunOf { job, run: 1 }],
        priority: Priority::default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_is_gone_and_its_image_with_the_last_that_has_it() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let (image, other) = (sample(1, 8), sample(2, 8));
    let twin = again(&image);
    let jobs = [image.clone(), twin.clone(), other.clone()];
    send_all(&address, &jobs).await;
    let path = file(&stack, &image);
    let mut connection = Connection::open(&address).await.unwrap();

    assert_eq!(delete(&mut connection, image.job).await, None);
    assert!(path.exists(), "its twin has the same image");
    assert_eq!(shown(&mut connection).await, [other.job, twin.job].into());
    let request = JobRequest {
        req: 4,
        job: image.job,
    };
    for message in [
        ClientMessage::Show(request),
        ClientMessage::Fetch(request),
        ClientMessage::Cancel(request),
        ClientMessage::Runs(RunsRequest {
            req: 4,
            job: image.job,
            before: None,
        }),
    ] {
        match connection.ask(&message).await {
            ServerMessage::Rejected(rejected) => assert_eq!(rejected.code, ErrorCode::UnknownJob),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let watch = ClientMessage::Watch(Watch {
        req: 5,
        jobs: vec![image.job],
    });
    match connection.ask(&watch).await {
        ServerMessage::Watching(watching) => assert_eq!(watching.unknown, [image.job]),
        other => panic!("unexpected: {other:?}"),
    }
    match connection.ask(&rerun(image.job)).await {
        ServerMessage::Reanalyzing(answer) => {
            assert_eq!(answer.refused[0].code, ErrorCode::UnknownJob);
        }
        other => panic!("unexpected: {other:?}"),
    }
    assert_eq!(delete(&mut connection, image.job).await, None, "twice");
    let unknown = delete(&mut connection, JobId::generate()).await;
    assert_eq!(unknown, Some(ErrorCode::UnknownJob));

    assert_eq!(delete(&mut connection, twin.job).await, None);
    assert!(!path.exists());
    // Nobody is told that the image is here.
    let anew = again(&image);
    match connection.ask(&submit(6, &anew, true)).await {
        ServerMessage::SendBody(send) => assert_eq!(send.job, anew.job),
        other => panic!("unexpected: {other:?}"),
    }
    assert_eq!(
        send_all(&address, std::slice::from_ref(&anew)).await.len(),
        1
    );
    assert_eq!(shown(&mut connection).await, [anew.job, other.job].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_not_deleted() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let address = stack.address();
    let (queued, done) = (sample(1, 8), sample(2, 8));
    send_all(&address, std::slice::from_ref(&done)).await;
    block_in_place(|| stack.workers()[0].stop());
    let mut connection = Connection::open(&address).await.unwrap();
    connection
        .send(&submit(1, &queued, false), &queued.bytes)
        .await
        .unwrap();
    match connection.next().await.unwrap() {
        ServerMessage::Accepted(accepted) => assert_eq!(accepted.job, queued.job),
        other => panic!("unexpected: {other:?}"),
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.ask(&rerun(done.job)).await {
            ServerMessage::Reanalyzing(answer) if answer.accepted == [done.job] => break,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
    for job in [queued.job, done.job] {
        let refused = delete(&mut connection, job).await;
        assert_eq!(refused, Some(ErrorCode::NotFinished));
    }
    assert!(file(&stack, &done).exists());
}

/// Waits for the end of the job that is submitted; its reason.
async fn end(connection: &mut Connection, image: &Sample) -> FailureReason {
    connection
        .send(&submit(7, image, true), &image.bytes)
        .await
        .unwrap();
    loop {
        match connection.next().await.unwrap() {
            ServerMessage::Accepted(accepted) => assert_eq!(accepted.job, image.job),
            ServerMessage::Result(end) => match end.result.outcome {
                Outcome::Failed(failure) => return failure.reason,
                Outcome::Done(analysis) => panic!("it is back: {analysis:?}"),
            },
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_stays_so_when_it_is_handed_in_again() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let image = sample(1, 8);
    send_all(&stack.address(), std::slice::from_ref(&image)).await;
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    assert_eq!(delete(&mut connection, image.job).await, None);
    // The server remembers it, and then has to ask.
    assert_eq!(
        end(&mut connection, &image).await,
        FailureReason::Deleted,
        "from memory"
    );
    block_in_place(|| {
        stack.server().kill();
        stack.server().restart().unwrap();
    });
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    assert_eq!(end(&mut connection, &image).await, FailureReason::Deleted);
    assert!(shown(&mut connection).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_between_row_and_file_removes_the_file_later() {
    let stack = Stack::builder().workers(1).start().unwrap();
    let (gone, kept) = (sample(1, 8), sample(2, 8));
    send_all(&stack.address(), &[gone.clone(), kept.clone()]).await;
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    let third = again(&gone);
    assert_eq!(
        delete(&mut connection, third.job).await,
        Some(ErrorCode::UnknownJob)
    );
    let deadline = Instant::now() + PATIENCE;
    let status = ClientMessage::Status(Request { req: 8 });
    loop {
        match connection.ask(&status).await {
            ServerMessage::Status(status) if status.spool == 0 => break,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    block_in_place(|| {
        // All that is done up to the death.
        let mut client = Client::connect(&stack.postgres().url(), NoTls).unwrap();
        let erased = client
            .query_one("SELECT erase_job($1, 'local')", &[&gone.job.uuid()])
            .unwrap();
        assert!(erased.get::<_, bool>(0));
        stack.server().kill();
        assert!(file(&stack, &gone).exists());
        stack.server().restart().unwrap();
        while file(&stack, &gone).exists() {
            assert!(Instant::now() < deadline, "the file is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(file(&stack, &kept).exists());
    let mut connection = Connection::open(&stack.address()).await.unwrap();
    assert_eq!(shown(&mut connection).await, [kept.job].into());
}

/// Each job is deleted and reanalysed in the same moment, while persisters die: one of the two
/// wins, and what was deleted has nothing personal left.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_and_reanalysing_at_once_is_one_of_the_two() {
    let stack = Stack::builder()
        .workers(1)
        .set("persister.claim_after", "1s")
        .set("server.sweep_interval", "1s")
        .start()
        .unwrap();
    let address = stack.address();
    let images: Vec<Sample> = (0..40).map(|number| sample(number, 8)).collect();
    send_all(&address, &images).await;
    let jobs: Vec<JobId> = images.iter().map(|image| image.job).collect();
    let reanalysing = {
        let (address, jobs) = (address.clone(), jobs.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await.unwrap();
            for job in jobs {
                connection.ask(&rerun(job)).await;
            }
        })
    };
    let mut connection = Connection::open(&address).await.unwrap();
    let mut deleted = Vec::new();
    for (number, &job) in jobs.iter().enumerate() {
        if number % 10 == 5 {
            block_in_place(|| {
                stack.persister().kill();
                stack.persister().restart().unwrap();
            });
        }
        match delete(&mut connection, job).await {
            None => deleted.push(job),
            Some(code) => assert_eq!(code, ErrorCode::NotFinished),
        }
    }
    reanalysing.await.unwrap();
    // The rest, once what is under way has ended.
    for &job in jobs.iter().filter(|job| !deleted.contains(job)) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(code) = delete(&mut connection, job).await {
            assert_eq!(code, ErrorCode::NotFinished);
            assert!(Instant::now() < deadline, "{job} does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(shown(&mut connection).await.is_empty());
    block_in_place(|| {
        let mut client = Client::connect(&stack.postgres().url(), NoTls).unwrap();
        let left = client
            .query(
                "SELECT 1 FROM jobs j JOIN predictions p ON p.job_id = j.id
                 WHERE deleted_at IS NULL OR name <> '' OR p.label <> '' OR p.properties ? 'sharpness'",
                &[],
            )
            .unwrap();
        assert_eq!(left.len(), 0);
        for image in &images {
            assert!(!file(&stack, image).exists(), "{}", image.sha256);
        }
    });
}
