//! A Redis of one's own: restarts, kills, pauses.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows test functions, not their helpers"
)]

use imgsys_local::TestRedis;
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

fn connect(redis: &TestRedis) -> BufReader<UnixStream> {
    let url = redis.url();
    let stream = UnixStream::connect(url.strip_prefix("unix://").unwrap()).unwrap();
    BufReader::new(stream)
}

/// One line of answer, or two for a string.
fn ask(redis: &mut BufReader<UnixStream>, command: &str) -> String {
    write!(redis.get_mut(), "{command}\r\n").unwrap();
    let mut answer = String::new();
    redis.read_line(&mut answer).unwrap();
    if answer.starts_with('$') && !answer.starts_with("$-1") {
        answer.clear();
        redis.read_line(&mut answer).unwrap();
    }
    answer.trim_end().to_owned()
}

#[test]
fn data_outlives_stop_and_kill_but_not_wipe() {
    let redis = TestRedis::start().unwrap();
    assert_eq!(ask(&mut connect(&redis), "SET color red"), "+OK");
    redis.stop();
    assert_eq!(redis.service().pid(), None);
    redis.start().unwrap();
    assert_eq!(ask(&mut connect(&redis), "GET color"), "red");

    assert_eq!(ask(&mut connect(&redis), "SET shape cube"), "+OK");
    redis.kill();
    redis.start().unwrap();
    assert_eq!(ask(&mut connect(&redis), "GET shape"), "cube");

    redis.wipe().unwrap();
    assert_eq!(ask(&mut connect(&redis), "GET shape"), "$-1");
}

#[test]
fn refuses_to_evict() {
    let redis = TestRedis::start().unwrap();
    let mut connection = connect(&redis);
    assert_eq!(ask(&mut connection, "CONFIG SET maxmemory 1"), "+OK");
    assert!(ask(&mut connection, "SET a b").starts_with("-OOM"));
}

#[test]
fn paused_it_is_silent_and_resumed_it_answers() {
    let redis = TestRedis::start().unwrap();
    let mut connection = connect(&redis);
    redis.pause();
    connection
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    connection.get_mut().write_all(b"PING\r\n").unwrap();
    let silence = connection.read_line(&mut String::new()).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    redis.resume();
    connection.get_ref().set_read_timeout(None).unwrap();
    let mut answer = String::new();
    connection.read_line(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n");
}

#[test]
fn a_paused_one_can_be_stopped() {
    let redis = TestRedis::start().unwrap();
    redis.pause();
    redis.stop();
    assert_eq!(redis.service().pid(), None);
}

#[test]
fn starting_what_runs_changes_nothing() {
    let redis = TestRedis::start().unwrap();
    let pid = redis.service().pid();
    redis.start().unwrap();
    assert_eq!(redis.service().pid(), pid);
}

#[test]
fn dropped_it_leaves_neither_process_nor_directory() {
    let redis = TestRedis::start().unwrap();
    let pid = redis.service().pid().unwrap();
    let url = redis.url();
    let socket = std::path::Path::new(url.strip_prefix("unix://").unwrap());
    let dir = socket.parent().unwrap().to_owned();
    assert!(dir.exists());
    drop(redis);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_panicking_test_leaves_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let redis = TestRedis::start().unwrap();
        tell.send(redis.service().pid().unwrap()).unwrap();
        panic!("as a failing test does");
    });
    let pid = told.recv().unwrap();
    test.join().unwrap_err();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn outlives_the_thread_that_started_it() {
    let redis = std::thread::spawn(|| TestRedis::start().unwrap())
        .join()
        .unwrap();
    assert_eq!(ask(&mut connect(&redis), "PING"), "+PONG");
    assert_eq!(redis.service().wait(Duration::from_millis(300)), None);
}
