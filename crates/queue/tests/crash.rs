//! Whoever dies, nothing is lost and nothing ends twice.

mod common;

use common::{
    Redis, Worker, dispatch, names, options, reason, spawn_worker, task, tasks, thief::Thief, until,
};
use imgsys_queue::{Producer, keys};
use imgsys_types::ServerId;
use redis::Commands;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// The worker that other tests start as a process of its own.
#[test]
fn worker_process() {
    common::worker_process();
}

#[tokio::test(flavor = "multi_thread")]
async fn task_of_a_killed_worker_is_taken_over_and_ends_once() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let mut doomed = spawn_worker(&redis);
    dispatch(&redis, &[task(server, "sleep:700")]).await;
    let held = || {
        redis
            .connection()
            .hlen::<_, usize>(names().unacked())
            .unwrap()
    };
    until("the worker holds it", || held() == 1);
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    assert_eq!(redis.ends().len(), 0);
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it is done", || redis.ends().len() == 1);
    assert_eq!(redis.ends()[0].result.as_ref().unwrap().attempts, 2);
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    assert_eq!(redis.ends().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_that_a_killed_python_worker_leaves_holds_nothing_up() {
    let redis = Redis::start();
    let mut doomed = spawn_worker(&redis);
    dispatch(&redis, &[task(ServerId::generate(), "sleep:700")]).await;
    let mut c = redis.connection();
    until("the worker holds it", || {
        let held: usize = c.hlen(names().unacked()).unwrap();
        held == 1
    });
    // As Kombu takes it, for five minutes.
    c.set_ex::<_, _, ()>("unacked_mutex", "dead", 300).unwrap();
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it is done", || redis.ends().len() == 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_task_is_not_taken_from_a_living_worker() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let one = Worker::start(options(&redis.url(), "one@test"));
    dispatch(&redis, &[task(server, "sleep:4000")]).await;
    until("it runs", || one.seen() == 1);
    let two = Worker::start(options(&redis.url(), "two@test"));
    until("it is done", || redis.ends().len() == 1);
    assert_eq!((one.seen(), two.seen()), (1, 0), "four leases long");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_claimed_by_a_dead_worker_returns() {
    let redis = Redis::start();
    let server = ServerId::generate();
    dispatch(&redis, &[task(server, "x")]).await;
    let list = names().priority_list(keys::QUEUE, 5);
    let mut c = redis.connection();
    let claim = names().claim(keys::QUEUE, 5, "dead@test");
    redis::cmd("LMOVE")
        .arg((&list, &claim, "RIGHT", "LEFT"))
        .exec(&mut c)
        .unwrap();
    c.zadd::<_, _, _, ()>(names().claims(), "dead@test", 1)
        .unwrap();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it is done", || redis.ends().len() == 1);
    let claims: Vec<String> = c.zrange(names().claims(), 0, -1).unwrap();
    assert_eq!(claims, ["one@test"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_from_a_fast_clock_and_a_foreign_queue() {
    let redis = Redis::start();
    let server = ServerId::generate();
    dispatch(&redis, &[task(server, "x")]).await;
    let mut c = redis.connection();
    let list = names().priority_list(keys::QUEUE, 5);
    let message: String = c.rpop(&list, None).unwrap();
    // A Python worker whose clock is an hour fast has died with it.
    let ahead = "9999999999";
    let entry = format!("[{message}, \"\", \"imgsys\"]");
    let _: () = c.hset(names().unacked(), "fast", entry).unwrap();
    let _: () = c.zadd(names().unacked_index(), "fast", ahead).unwrap();
    // Another program's message, long overdue by our lease, is not ours to restore.
    let _: () = c
        .hset(names().unacked(), "foreign", "[{}, \"\", \"other\"]")
        .unwrap();
    let _: () = c.zadd(names().unacked_index(), "foreign", 1).unwrap();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("ours is done", || redis.ends().len() == 1);
    worker.stop().await;
    let left: Vec<String> = c.hkeys(names().unacked()).unwrap();
    assert_eq!(left, ["foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_restarted_under_load_loses_nothing() {
    let mut redis = Redis::start();
    let server = ServerId::generate();
    let all = tasks(server, "sleep:10", 300);
    let producer = Producer::new(&redis.url()).unwrap();
    let workers = ["one@test", "two@test"].map(|name| Worker::start(options(&redis.url(), name)));
    let sender = tokio::spawn({
        let (producer, all) = (producer.clone(), all.clone());
        async move {
            for chunk in all.chunks(10) {
                while producer.dispatch(chunk).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    for ends in [50, 150] {
        until("some are done", || redis.ends().len() >= ends);
        redis.kill();
        // Longer than a lease.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        redis.restart();
    }
    sender.await.unwrap();
    until("all are done", || redis.ends().len() >= all.len());
    until("nothing is left", || redis.is_clear());
    let [one, two] = workers;
    one.stop().await;
    two.stop().await;
    let ends = redis.ends();
    assert_eq!(ends.len(), all.len(), "none ends twice");
    let jobs: BTreeSet<_> = ends.iter().map(|record| record.job.id).collect();
    assert_eq!(jobs, all.iter().map(|task| task.job.id).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_servers_start_without_redis() {
    let mut redis = Redis::start();
    let server = ServerId::generate();
    redis.kill();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let producer = Producer::new(&redis.url()).unwrap();
    let task = task(server, "x");
    let error = producer.dispatch(std::slice::from_ref(&task)).await;
    assert_eq!(error.unwrap_err().to_string(), "Redis can't take tasks now");
    redis.restart();
    producer.dispatch(&[task]).await.unwrap();
    until("it is done", || redis.ends().len() == 1);
    redis.kill();
    // Stops all the same.
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_condemned_and_takes_nothing_with_it() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let poison = task(server, "die:now");
    let mut others = tasks(server, "sleep:400", 6);
    others.insert(3, poison.clone());
    let mut child = spawn_worker(&redis);
    let mut deaths = 0;
    dispatch(&redis, &others).await;
    until("all have ended", || {
        if child.try_wait().unwrap().is_some() {
            deaths += 1;
            child = spawn_worker(&redis);
        }
        redis.ends().len() == others.len()
    });
    until("nothing is left", || redis.is_clear());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(deaths, 3, "twice beside others, once alone");
    let ends = redis.ends();
    assert_eq!(ends.len(), others.len());
    for end in &ends {
        let expected = if end.job.id == poison.job.id {
            "dead_letter"
        } else {
            "done"
        };
        assert_eq!(reason(end), expected);
    }
    let dead = redis.dead();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["reason"], "dead_letter");
    let message = dead[0]["message"].as_str().unwrap();
    assert!(message.contains(&poison.job.id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn task_that_waits_for_its_time_is_not_to_blame_for_a_dead_worker() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let task = task(server, "x");
    dispatch(&redis, std::slice::from_ref(&task)).await;
    let list = names().priority_list(keys::QUEUE, 5);
    let mut c = redis.connection();
    let message: String = c.rpop(&list, None).unwrap();
    let eta = chrono::Utc::now() + Duration::from_secs(4);
    let message = common::changed(&message, "/headers/eta", eta.to_rfc3339().into());
    let _: i64 = c.lpush(&list, message).unwrap();
    let mut doomed = spawn_worker(&redis);
    until("the worker holds it", || {
        c.hlen::<_, usize>(names().unacked()).unwrap() == 1
    });
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    until("it is done", || redis.ends().len() == 1);
    assert!(chrono::Utc::now() >= eta);
    assert_eq!(redis.ends()[0].result.as_ref().unwrap().attempts, 1);
    worker.stop().await;
    until("nothing is left", || redis.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn task_that_comes_back_before_the_answer_to_its_retry_is_kept() {
    let redis = Redis::start();
    // So the script that puts a task back is called; of all others none has such an argument.
    let thief = Thief::before(&redis.socket(), b"\r\nLPUSH\r\n");
    let worker = Worker::start(options(&thief.url(), "one@test"));
    dispatch(&redis, &[task(ServerId::generate(), "away:1")]).await;
    let mut c = redis.connection();
    let mut first_seen = HashMap::new();
    until("the worker holds what it put back", || {
        let held: HashMap<String, String> = c.hgetall(names().unacked()).unwrap();
        let again = held
            .into_iter()
            .find(|(_, entry)| entry.contains("\"retries\":1"));
        let Some((tag, _)) = again else { return false };
        let renewed: Option<f64> = c.zscore(names().unacked_index(), &tag).unwrap();
        let renewed = renewed.unwrap_or_default();
        // Only a lease that the worker knows of is renewed.
        renewed > *first_seen.entry(tag).or_insert(renewed)
    });
    thief.reform();
    until("it is done", || redis.ends().len() == 1);
    assert_eq!(redis.ends()[0].result.as_ref().unwrap().attempts, 2);
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_redis_is_an_outage_like_any_other() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let worker = Worker::start(options(&redis.url(), "one@test"));
    let producer = dispatch(&redis, &tasks(server, "sleep:300", 4)).await;
    until("they run", || worker.seen() == 4);
    let replica_of = |host: &str, port: &str| {
        let mut c = redis.connection();
        redis::cmd("REPLICAOF")
            .arg((host, port))
            .exec(&mut c)
            .unwrap();
    };
    // As after a failover: this one follows a primary that nobody can reach.
    replica_of("127.0.0.1", "1");
    let more = tasks(server, "x", 4);
    assert!(producer.dispatch(&more).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(redis.ends().len(), 0);
    replica_of("NO", "ONE");
    producer.dispatch(&more).await.unwrap();
    until("all are done", || redis.ends().len() == 8);
    until("nothing is left", || redis.is_clear());
    worker.stop().await;
    assert_eq!(redis.ends().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_lose_nothing_and_end_nothing_twice() {
    let redis = Redis::start();
    let server = ServerId::generate();
    let all = tasks(server, "sleep:20", 600);
    dispatch(&redis, &all).await;
    let mut workers = [0; 3].map(|_| spawn_worker(&redis));
    for kills in 1..=10 {
        until("some are done", || redis.ends().len() >= 50 * kills);
        let doomed = &mut workers[kills % 3];
        doomed.kill().unwrap();
        doomed.wait().unwrap();
        *doomed = spawn_worker(&redis);
    }
    until("all have ended", || redis.ends().len() >= all.len());
    until("nothing is left", || redis.is_clear());
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let ends = redis.ends();
    assert_eq!(ends.len(), all.len());
    let jobs: BTreeSet<_> = ends.iter().map(|record| record.job.id).collect();
    assert_eq!(jobs, all.iter().map(|task| task.job.id).collect());
}
