//! Every way in which a Redis may be set up, each against a real one: password, user, database,
//! TLS, socket and prefix.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Redis, Worker, names, options, task, tasks, until};
use imgsys_queue::{
    Cancelled, OpenState, Producer, QueueError, ServerEvent, Task, WorkerOptions,
    events::{Entry, EventStream},
    keys::{self, Keys},
    listen,
};
use imgsys_tls::testing::{TestCa, TestCertificate};
use imgsys_types::{Failure, FailureReason, JobRecord, JobResult, ServerId};
use redis::{Commands, Connection, cmd};
use std::{collections::HashSet, net::TcpListener, time::Duration};
use tokio::{sync::mpsc::Receiver, time::timeout};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

/// A port that nobody has.
fn port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

async fn next(heard: &mut Receiver<ServerEvent>) -> ServerEvent {
    timeout(SOON, heard.recv()).await.unwrap().unwrap()
}

/// A persister's part, which blocks: reads events until there are so many, and settles all but the
/// last, which it sets aside.
fn persist(url: &str, count: usize) {
    let mut stream = EventStream::new(url, "persister-1").unwrap();
    stream.ensure_group().unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    until("all events are read", || {
        entries.extend(stream.read(100, Duration::from_millis(50)).unwrap());
        entries.len() >= count
    });
    assert!(stream.claim(SOON, 10).unwrap().is_empty());
    let (last, others) = entries.split_last().unwrap();
    stream
        .settle(&others.iter().collect::<Vec<_>>(), &[])
        .unwrap();
    stream.set_aside(last, "for a test").unwrap();
    stream.trim().unwrap();
    stream.bury(SOON).unwrap();
}

/// Everything that a server, a worker and a persister do, each by its own way to the same Redis;
/// `admin` may do everything there.
async fn journey(server_url: &str, worker_url: &str, persister_url: &str, admin: &mut Connection) {
    let names = Keys::of(server_url).unwrap();
    let server = ServerId::generate();
    let stop = CancellationToken::new();
    let producer = Producer::new(server_url).unwrap();
    producer.ping().await.unwrap();
    let mut heard = listen(server_url, server, stop.clone());
    assert_eq!(next(&mut heard).await, ServerEvent::Subscribed);

    // Before there is a worker: what only a server does.
    let mut jobs: Vec<_> = [0, 5, 9].map(|_| task(server, "ok")).into();
    jobs.push(task(server, "away:1"));
    jobs.push(task(server, "cancelled"));
    jobs.push(task(server, "announced"));
    producer.dispatch(&jobs).await.unwrap();
    let failed = |n: usize| JobRecord {
        job: jobs[n].job.clone(),
        result: Some(JobResult::failed(
            0,
            Failure::new(FailureReason::Cancelled, "for a test"),
        )),
    };
    assert_eq!(producer.requeue(&jobs[..1]).await.unwrap(), 1);
    let cancelled = producer.cancel(&failed(4)).await.unwrap();
    assert_eq!(cancelled, Cancelled::Cancelled);
    producer.announce(&[failed(5)]).await.unwrap();
    let asked = [(jobs[0].job.id, 0), (jobs[5].job.id, 0)];
    let states = producer.open_states(server, &asked).await.unwrap();
    assert_eq!(states[0], OpenState::Queued);
    assert!(matches!(states[1], OpenState::Ended(_)));
    // One requeued; those that have ended are still in the lists.
    assert_eq!(producer.depth(server).await.unwrap().waiting, 7);

    // What a worker that died has left, leased and claimed.
    let list = names.priority_list(keys::QUEUE, 5);
    let claim = names.claim(keys::QUEUE, 5, "dead@test");
    let _: Option<String> = cmd("LMOVE")
        .arg(&[&list, &claim, "RIGHT", "LEFT"])
        .query(admin)
        .unwrap();
    let _: () = admin.zadd(names.claims(), "dead@test", 1).unwrap();
    let message: String = admin.rpop(&list, None).unwrap();
    let entry = format!("[{message},\"\",\"{}\"]", keys::QUEUE);
    let _: () = admin.hset(names.unacked(), "dead.1", entry).unwrap();
    let _: () = admin.zadd(names.unacked_index(), "dead.1", 1).unwrap();
    let _: () = admin.lpush(&list, "no message").unwrap();

    let worker = Worker::start(WorkerOptions {
        drain: Duration::from_millis(100),
        ..options(worker_url, "w@test")
    });
    let mut ended = HashSet::new();
    while ended.len() < 5 {
        match next(&mut heard).await {
            ServerEvent::Result(record) => assert!(ended.insert(record.job.id)),
            other => panic!("{other:?}"),
        }
    }
    until("all that was left is settled", || {
        let held: usize = admin.hlen(names.unacked()).unwrap();
        let dead: usize = admin.llen(names.dead()).unwrap();
        held == 0 && dead == 1
    });
    let persister_url = persister_url.to_owned();
    let persister = tokio::task::spawn_blocking(move || persist(&persister_url, 12));
    let event = next(&mut heard).await;
    assert!(matches!(event, ServerEvent::Persisted(ids) if ids.len() >= 5));
    persister.await.unwrap();

    // One that is given back when the worker stops.
    let slow = task(server, "sleep:60000");
    producer.dispatch(&[slow]).await.unwrap();
    until("the slow one runs", || worker.seen() == 5);
    worker.stop().await;
    let depth = producer.depth(server).await.unwrap();
    assert_eq!((depth.waiting, depth.held), (1, 0));
    stop.cancel();
}

async fn all_by(url: &str, admin: &mut Connection) {
    journey(url, url, url, admin).await;
}

fn connect(url: &str) -> Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

/// The error of a Redis that can't be used, with its causes.
async fn trouble(url: &str) -> String {
    let error = Producer::new(url).unwrap().ping().await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn password() {
    let port = port();
    let extra = ["--requirepass", "hunter 2", "--port", &port];
    let _redis = Redis::with(tempfile::tempdir().unwrap(), &extra);
    let url = |password: &str| format!("redis://{password}127.0.0.1:{port}/0");
    let right = url(":hunter%202@");
    all_by(&right, &mut connect(&right)).await;

    let wrong = trouble(&url(":hunter3@")).await;
    assert!(wrong.contains("it refuses our user or password"), "{wrong}");
    assert!(!wrong.contains("hunter"), "{wrong}");
    let none = trouble(&url("")).await;
    assert!(none.contains("it wants a password"), "{none}");
}

/// The rules of docs/queue.md, with a password.
fn rules() -> String {
    let document = include_str!("../../../docs/queue.md");
    let lines = document
        .lines()
        .filter(|line| line.starts_with("user imgsys-"));
    let rules: Vec<String> = lines
        .map(|line| line.replace(">PASSWORD", ">hunter2"))
        .collect();
    assert_eq!(rules.len(), 3);
    rules.join("\n")
}

/// A Redis for these users and an administrator, and its URL for each of them.
fn with_users(rules: &str) -> (Redis, impl Fn(&str, &str) -> String + use<>) {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users.acl");
    let admin = "user admin on >root ~* &* +@all\nuser default off\n";
    std::fs::write(&users, format!("{admin}{rules}\n")).unwrap();
    let socket = dir.path().join("socket");
    let url = move |user: &str, password: &str| {
        format!("unix://{}?user={user}&pass={password}", socket.display())
    };
    let redis = Redis::with(dir, &["--aclfile", users.to_str().unwrap()]);
    (redis, url)
}

/// The journey, with a user for each part.
async fn journey_of_users(url: &impl Fn(&str, &str) -> String, admin: &mut Connection) {
    let [server, worker, persister] =
        ["imgsys-server", "imgsys-worker", "imgsys-persister"].map(|user| url(user, "hunter2"));
    journey(&server, &worker, &persister, admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_may_do_what_the_documentation_says() {
    let (_redis, url) = with_users(&rules());
    let mut admin = connect(&url("admin", "root"));
    journey_of_users(&url, &mut admin).await;
    let denied: Vec<redis::Value> = cmd("ACL").arg("LOG").query(&mut admin).unwrap();
    assert!(denied.is_empty(), "{denied:?}");

    let other = trouble(&url("imgsys-server", "hunter3")).await;
    assert!(other.contains("it refuses our user or password"), "{other}");
    let _: () = cmd("ACL")
        .arg(&["SETUSER", "imgsys-server", "-ping"])
        .query(&mut admin)
        .unwrap();
    let less = trouble(&url("imgsys-server", "hunter2")).await;
    assert!(less.contains("our user may not do that"), "{less}");
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_that_may_not_be_seen_works_all_the_same() {
    let rules = rules();
    let fewer = rules
        .replace("&/*.celeryev/*", "")
        .replace("&/*.celery.pidbox", "");
    assert_ne!(fewer, rules);
    let (_redis, url) = with_users(&fewer);
    let mut admin = connect(&url("admin", "root"));
    journey_of_users(&url, &mut admin).await;
    // Once each; more of the same within a minute are counted in one entry.
    let denied: Vec<redis::Value> = cmd("ACL").arg("LOG").query(&mut admin).unwrap();
    assert_eq!(denied.len(), 2, "{denied:?}");
}

/// Ends that come together are one call of a script, which Redis refuses as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn end_that_is_refused_keeps_no_other_waiting() {
    let rules = rules();
    let fewer = rules.replace(
        "~unacked* ~celery-task-meta-*",
        "~unacked* ~celery-task-meta-*[0-7]",
    );
    assert_ne!(fewer, rules);
    let (redis, url) = with_users(&fewer);
    let mut admin = connect(&url("admin", "root"));
    let tasks = tasks(ServerId::generate(), "x", 64);
    let producer = Producer::new(&url("imgsys-server", "hunter2")).unwrap();
    producer.dispatch(&tasks).await.unwrap();
    let allowed = |task: &&Task| {
        !task
            .job
            .id
            .to_string()
            .ends_with(|c| matches!(c, '8'..='f'))
    };
    let allowed = tasks.iter().filter(allowed).count();
    assert!(
        allowed > 0 && allowed < 64,
        "chance has it otherwise once in 2^63"
    );
    let options = WorkerOptions {
        prefetch: 64,
        prefetch_most: 0,
        prefetch_within: Duration::ZERO,
        ..options(&url("imgsys-worker", "hunter2"), "one@test")
    };
    let worker = Worker::start(options);
    let ended = |admin: &mut Connection| {
        let length: usize = admin.xlen(names().events()).unwrap();
        length - tasks.len()
    };
    until("those that may end have ended", || {
        ended(&mut admin) == allowed
    });
    assert_eq!(worker.seen(), 64);
    assert_eq!(ended(&mut admin), allowed);
    // What has not ended is held, and will be another worker's.
    let held: usize = admin.hlen(names().unacked()).unwrap();
    assert_eq!(held, 64 - allowed);
    drop((worker, redis));
}

#[tokio::test(flavor = "multi_thread")]
async fn database_other_than_the_first() {
    let redis = Redis::start();
    let url = format!("{}?db=3", redis.url());
    all_by(&url, &mut connect(&url)).await;
    let info: String = cmd("INFO")
        .arg("keyspace")
        .query(&mut redis.connection())
        .unwrap();
    assert!(info.contains("db3:") && !info.contains("db0:"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_goes_before_every_key_and_channel() {
    let redis = Redis::start();
    let url = format!("{}?key_prefix=site:&result_key_prefix=res", redis.url());
    let stop = CancellationToken::new();
    let mut channels = HashSet::new();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut all = client.get_async_pubsub().await.unwrap();
    all.psubscribe("*").await.unwrap();
    let listening = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        use futures::StreamExt;
        let (_sink, mut messages) = all.split();
        let mut seen = Vec::new();
        while let Some(message) = messages.next().await {
            seen.push(message.get_channel_name().to_owned());
            if seen.len() > 5 {
                break;
            }
        }
        seen
    }));
    all_by(&url, &mut redis.connection()).await;
    channels.extend(timeout(SOON, listening).await.unwrap().unwrap().unwrap());
    let found: Vec<String> = redis.connection().keys("*").unwrap();
    assert!(
        found
            .iter()
            .any(|key| key.starts_with("res_celery-task-meta-"))
    );
    for name in found.iter().chain(&channels) {
        let ours = name.starts_with("site:") || name.starts_with("res_celery-task-meta-");
        assert!(ours, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prefixes_share_a_database() {
    let redis = Redis::start();
    let url = |prefix: &str| format!("{}?key_prefix={prefix}", redis.url());
    let (one, two) = (url("one:"), url("two:"));
    let mut admin = redis.connection();
    all_by(&one, &mut admin).await;
    all_by(&two, &mut admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificates_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new(dir.path(), "ca");
    let (theirs, ours) = (ca.sign(&["localhost"]), ca.sign(&["imgsys"]));
    let stranger = TestCa::new(dir.path(), "stranger");
    let stolen = stranger.sign(&["thief"]);
    let (port, plain) = (port(), port());
    let extra = [
        "--tls-port",
        &port,
        "--port",
        &plain,
        "--tls-cert-file",
        theirs.certificate.to_str().unwrap(),
        "--tls-key-file",
        theirs.key.to_str().unwrap(),
        "--tls-ca-cert-file",
        ca.file.to_str().unwrap(),
    ];
    let url = |host: &str, ca: &TestCa, own: Option<&TestCertificate>| {
        let own = own.map(|own| {
            let (certificate, key) = (own.certificate.display(), own.key.display());
            format!("&certificate={certificate}&key={key}")
        });
        let ca = ca.file.display();
        format!(
            "rediss://{host}:{port}/1?ca={ca}{}",
            own.unwrap_or_default()
        )
    };
    let redis = Redis::with(dir, &extra);
    let right = url("localhost", &ca, Some(&ours));
    let mut admin = connect(&format!("{}?db=1", redis.url()));
    all_by(&right, &mut admin).await;

    for (url, said) in [
        (
            url("localhost", &stranger, Some(&ours)),
            "its certificate is signed by nobody whom we trust",
        ),
        (
            url("127.0.0.1", &ca, Some(&ours)),
            "its certificate is for another name",
        ),
        (
            url("localhost", &ca, None),
            "it wants a certificate of ours",
        ),
        (
            url("localhost", &ca, Some(&stolen)),
            "it does not accept our certificate",
        ),
        (
            url("localhost", &ca, Some(&ours)).replace(&port, &plain),
            "timed out",
        ),
    ] {
        let error = trouble(&url).await;
        assert!(error.contains(said), "{url}: {error}");
    }
    // Where one side speaks TLS and the other does not, Redis says nothing.
    let error = trouble(&format!("redis://localhost:{port}/1")).await;
    assert!(error.contains("Connection reset"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_is_refused_in_words() {
    let redis = Redis::with(tempfile::tempdir().unwrap(), &["--cluster-enabled", "yes"]);
    let producer = Producer::new(&redis.url()).unwrap();
    let error = producer.dispatch(&[task(ServerId::generate(), "ok")]).await;
    let error = error.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable { .. }));
    assert!(error.to_string().contains("Redis Cluster"), "{error}");
}
