//! What a server asks and tells.

mod common;

use common::{Redis, Worker, dispatch, names, options, reason, task, tasks, until};
use imgsys_queue::{
    Cancelled, OpenState, Persisted, Producer, ServerEvent, Task, events::EventStream, listen,
};
use imgsys_types::{Failure, FailureReason, JobId, JobRecord, JobResult, Run, ServerId, Timestamp};
use redis::Commands;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn cancelled(task: &Task) -> JobRecord {
    let failure = Failure::new(FailureReason::Cancelled, "the client asked for it");
    JobRecord {
        job: task.job.clone(),
        result: Some(JobResult::failed(task.run, failure)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_states_follow_a_job() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let tasks = tasks(server, "x", 300);
    let mut jobs: Vec<_> = tasks.iter().map(|task| (task.job.id, task.run)).collect();
    jobs.push((JobId::generate(), 0));
    let producer = dispatch(&redis, &tasks).await;
    let states = producer.open_states(server, &jobs).await.unwrap();
    assert!(
        states[..300]
            .iter()
            .all(|state| *state == OpenState::Queued)
    );
    assert_eq!(states[300], OpenState::Absent);
    let depth = producer.depth(server).await.unwrap();
    assert_eq!(
        (depth.waiting, depth.open, depth.held, depth.dead),
        (300, 300, 0, 0)
    );
    assert!(depth.used_memory > 0 && depth.memory_load() < f64::EPSILON);

    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("all are done", || redis.ends().len() == 300);
    worker.stop().await;
    let states = producer.open_states(server, &jobs).await.unwrap();
    for (state, task) in states.iter().zip(&tasks) {
        let OpenState::Ended(record) = state else {
            panic!("{state:?}")
        };
        assert_eq!(record.job, task.job);
    }
    // Written to the database and trimmed, but not yet removed from `open`.
    let _: i64 = redis
        .connection()
        .xtrim(names().events(), redis::streams::StreamMaxlen::Equals(0))
        .unwrap();
    let states = producer.open_states(server, &jobs[..1]).await.unwrap();
    assert_eq!(states, [OpenState::Absent]);
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_result_is_an_event_once_and_stands() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let task = task(server, "x");
    let producer = dispatch(&redis, std::slice::from_ref(&task)).await;
    let record = cancelled(&task);
    for _ in 0..2 {
        producer
            .announce(std::slice::from_ref(&record))
            .await
            .unwrap();
    }
    // The worker finds the message, but the job has ended.
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("nothing is left", || redis.is_clear());
    assert_eq!(worker.seen(), 0);
    worker.stop().await;
    assert_eq!(redis.ends(), [record]);
    let mut stream = EventStream::new(&redis.url(), "persister").unwrap();
    stream.ensure_group().unwrap();
    let entries = stream.read(10, Duration::ZERO).unwrap();
    let told: Vec<bool> = entries.iter().map(|entry| entry.told).collect();
    assert_eq!(told, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_a_job_unless_it_has_ended() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut news = listen(&redis.url(), server, CancellationToken::new());
    assert_eq!(news.recv().await, Some(ServerEvent::Subscribed));
    let waiting = task(server, "x");
    let running = task(server, "sleep:400");
    let producer = dispatch(&redis, std::slice::from_ref(&waiting)).await;
    let cancel = |task| {
        let (producer, record) = (producer.clone(), cancelled(task));
        async move { producer.cancel(&record).await.unwrap() }
    };
    assert_eq!(cancel(&waiting).await, Cancelled::Cancelled);
    let Some(ServerEvent::Result(told)) = news.recv().await else {
        panic!("no news")
    };
    assert_eq!(reason(&told), "cancelled");
    let Cancelled::AlreadyEnded(ended) = cancel(&waiting).await else {
        panic!("cancelled twice")
    };
    assert_eq!(ended, told);

    producer
        .dispatch(std::slice::from_ref(&running))
        .await
        .unwrap();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it runs", || worker.seen() == 1);
    assert_eq!(cancel(&running).await, Cancelled::Cancelled);
    until("nothing is left", || redis.is_clear());
    assert_eq!(
        worker.seen(),
        1,
        "the one that had been cancelled never ran"
    );
    worker.stop().await;
    let reasons: Vec<_> = redis.ends().iter().map(reason).collect();
    assert_eq!(reasons, ["cancelled", "cancelled"]);
    let id = running.job.id.to_string();
    let celery: String = redis.connection().get(names().task_result(&id)).unwrap();
    let celery: Value = serde_json::from_str(&celery).unwrap();
    assert_eq!(celery["status"], "REVOKED");

    let unknown = task(server, "x");
    assert_eq!(cancel(&unknown).await, Cancelled::NotOpen);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_ends_before_it_is_told_of_needs_no_event() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let [ends, waits] = ["x", "y"].map(|image| task(server, image));
    let producer = Producer::new(&redis.url()).unwrap();
    producer
        .dispatch_untold(&[ends.clone(), waits.clone()])
        .await
        .unwrap();
    assert!(redis.events().is_empty());
    producer.cancel(&cancelled(&ends)).await.unwrap();
    let run = |task: &Task| Run::submission(task.job.clone());
    let runs = [run(&ends), run(&waits)];
    producer.tell_accepted(&runs).await.unwrap();
    let events = redis.events();
    let told: Vec<_> = events
        .iter()
        .map(|(kind, record)| (kind.as_str(), record.job.id))
        .collect();
    assert_eq!(told, [("failed", ends.job.id), ("accepted", waits.job.id)]);
    assert_eq!(events[1].1.job, waits.job);
    // An earlier run that has ended since is not told of either.
    let later = next_run(&waits, "z");
    producer.dispatch_untold(&[later]).await.unwrap();
    producer.tell_accepted(&runs[1..]).await.unwrap();
    assert_eq!(redis.events().len(), 2);
}

/// The next run of a job, accepted now.
fn next_run(task: &Task, image_url: &str) -> Task {
    Task {
        run: task.run + 1,
        accepted_at: Timestamp::now(),
        image_url: image_url.to_owned(),
        ..task.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn next_run_is_sent_though_the_end_of_the_last_is_not_written_yet() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut first = task(server, "x");
    first.job.submitted_at = Timestamp::from_micros(0);
    let producer = dispatch(&redis, std::slice::from_ref(&first)).await;
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("the first has ended", || redis.ends().len() == 1);

    let second = next_run(&first, "sleep:200");
    let runs = [(first.job.id, 0), (first.job.id, 1)];
    let states = producer.open_states(server, &runs).await.unwrap();
    assert!(matches!(
        states[..],
        [OpenState::Ended(_), OpenState::Absent]
    ));
    for _ in 0..3 {
        // Sent again, as if its answer had been lost, it is the same run.
        producer
            .dispatch(std::slice::from_ref(&second))
            .await
            .unwrap();
    }
    let states = producer.open_states(server, &runs[1..]).await.unwrap();
    assert_eq!(states, [OpenState::Queued]);
    // Only now comes the persister: it leaves the new mark alone.
    let mut persister = EventStream::new(&redis.url(), "one").unwrap();
    let entries = persister.read(100, Duration::ZERO).unwrap();
    let written: Vec<_> = entries.iter().collect();
    persister.settle(&written, &[]).unwrap();
    until("the second has ended", || redis.ends().len() == 2);
    until("nothing is left", || redis.is_clear());
    producer.dispatch(&[second]).await.unwrap();
    assert!(redis.is_clear(), "the run that has ended is not sent again");
    worker.stop().await;
    let ends = redis
        .ends()
        .into_iter()
        .map(|record| record.result.unwrap());
    // The wait is counted from when the run was accepted: 1970, and a moment ago.
    let an_hour = 3_600_000_000;
    let ends: Vec<_> = ends.map(|end| (end.run, end.queued_us > an_hour)).collect();
    assert_eq!(ends, [(0, true), (1, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_run_takes_the_place_of_a_mark_from_before_redis_was_set_back() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let first = task(server, "x");
    let producer = dispatch(&redis, std::slice::from_ref(&first)).await;
    let second = next_run(&first, "x");
    let runs = [(first.job.id, 1)];
    let states = producer.open_states(server, &runs).await.unwrap();
    assert_eq!(states, [OpenState::Absent], "only the first run is there");
    producer
        .dispatch(std::slice::from_ref(&second))
        .await
        .unwrap();
    // The first run's message is still there, and comes to nothing.
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    let runs = redis
        .ends()
        .into_iter()
        .map(|record| record.result.unwrap().run);
    assert_eq!(runs.collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_copy_of_an_earlier_run_does_not_end_the_next() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let first = task(server, "sleep:400");
    let producer = dispatch(&redis, std::slice::from_ref(&first)).await;
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it runs", || worker.seen() == 1);
    // Meanwhile its end, which another copy brought about, was written, and the next run began.
    let id = first.job.id.to_string();
    let _: () = redis.connection().hdel(names().open(server), &id).unwrap();
    let second = next_run(&first, "sleep:800");
    producer.dispatch(&[second]).await.unwrap();
    until("the second ends", || !redis.ends().is_empty());
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    let runs: Vec<u32> = redis
        .ends()
        .iter()
        .map(|record| record.result.as_ref().unwrap().run)
        .collect();
    assert_eq!(runs, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_subscribes_again_after_an_outage_and_skips_nonsense() {
    let mut redis = Redis::start();
    let server = ServerId::generate();
    let stop = CancellationToken::new();
    let mut news = listen(&redis.url(), server, stop.clone());
    let mut next = async || timeout(Duration::from_secs(20), news.recv()).await.unwrap();
    assert_eq!(next().await, Some(ServerEvent::Subscribed));
    redis.kill();
    assert!(matches!(next().await, Some(ServerEvent::Lost(_))));
    redis.restart();
    while !matches!(next().await, Some(ServerEvent::Subscribed)) {}
    let job = JobId::generate();
    let mut c = redis.connection();
    let _: i64 = c.publish(names().results(server), "{nonsense").unwrap();
    let _: i64 = c
        .publish(
            names().persisted(server),
            format!("[[\"{job}\",5],[\"{job}.3\",-7],[\"{job}.x\",9]]"),
        )
        .unwrap();
    let persisted = |run, micros| Persisted {
        job,
        run,
        finished_at: Timestamp::from_micros(micros),
    };
    assert_eq!(
        next().await,
        Some(ServerEvent::Persisted(vec![
            persisted(0, 5),
            persisted(3, -7)
        ]))
    );
    stop.cancel();
    assert_eq!(next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_redis_makes_nobody_wait_for_ever() {
    // Takes connections, and never says a word.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let producer = Producer::new(&format!("unix://{}", socket.display())).unwrap();
    let asked = timeout(Duration::from_secs(15), producer.ping()).await;
    let error = asked.expect("answers in time").unwrap_err();
    assert_eq!(error.to_string(), "Redis can't answer a ping now");
}
