//! The stream as a consumer sees it: nothing is lost between Redis and a persister.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_queue::events::{Entry, EventStream};
use imgsys_types::JobId;
use redis::Commands;
use std::time::{Duration, Instant};
use support::{Site, eventually, names};

const NOT: Duration = Duration::ZERO;

fn consumer(site: &Site, name: &str) -> EventStream {
    EventStream::new(&site.redis.url(), name).unwrap()
}

fn ids(entries: &[Entry]) -> Vec<JobId> {
    let id = |entry: &Entry| entry.event.as_ref().unwrap().job.id;
    entries.iter().map(id).collect()
}

fn settle(stream: &mut EventStream, entries: &[Entry]) {
    stream
        .settle(&entries.iter().collect::<Vec<_>>(), &[])
        .unwrap();
}

#[test]
fn a_read_waits_for_the_first_event_and_no_longer() {
    let site = Site::without_schema();
    let mut stream = consumer(&site, "a");
    // The group is made by whoever finds that there is none.
    assert!(stream.read(10, NOT).unwrap().is_empty());
    let start = Instant::now();
    assert!(
        stream
            .read(10, Duration::from_millis(200))
            .unwrap()
            .is_empty()
    );
    assert!(start.elapsed() >= Duration::from_millis(200));
    let jobs = site.jobs(3);
    std::thread::scope(|scope| {
        let read = scope.spawn(|| stream.read(10, Duration::from_secs(5)).unwrap());
        site.finish(&jobs);
        assert_eq!(ids(&read.join().unwrap())[0], jobs[0].job.id);
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn events_from_before_the_group_are_read() {
    let site = Site::without_schema();
    let jobs = site.jobs(5);
    site.finish(&jobs);
    let entries = consumer(&site, "a").read(10, NOT).unwrap();
    assert_eq!(
        ids(&entries),
        jobs.iter().map(|j| j.job.id).collect::<Vec<_>>()
    );
}

#[test]
fn what_was_handed_out_on_a_broken_connection_is_handed_out_again() {
    let site = Site::without_schema();
    let mut stream = consumer(&site, "a");
    stream.ensure_group().unwrap();
    let jobs = site.jobs(5);
    site.finish(&jobs);
    let first = stream.read(3, NOT).unwrap();
    let cut = || {
        redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .exec(&mut site.redis())
    };
    cut().unwrap();
    assert!(stream.read(10, NOT).is_err());
    // In pieces, too, and then what is new.
    let again = [stream.read(2, NOT).unwrap(), stream.read(2, NOT).unwrap()].concat();
    assert_eq!(again, first);
    settle(&mut stream, &again);
    assert_eq!(stream.read(10, NOT).unwrap().len(), 2);
}

#[test]
fn what_a_dead_consumer_held_is_claimed_once() {
    let site = Site::without_schema();
    let jobs = site.jobs(50);
    let mut dead = consumer(&site, "dead");
    dead.ensure_group().unwrap();
    site.finish(&jobs);
    assert_eq!(dead.read(50, NOT).unwrap().len(), 50);
    drop(dead);
    let mut heir = consumer(&site, "heir");
    let idle = Duration::from_millis(300);
    let mut claimed = heir.claim(idle, 20).unwrap();
    assert!(claimed.is_empty(), "taken from the living");
    eventually("they are claimed", || {
        claimed.extend(heir.claim(idle, 20).unwrap());
        claimed.len() >= 50
    });
    let mut found = ids(&claimed);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 50);
    settle(&mut heir, &claimed);
    assert_eq!((site.pending(), site.open().len()), (0, 0));
    assert!(heir.claim(NOT, 20).unwrap().is_empty());
}

#[test]
fn trimming_keeps_what_is_not_settled() {
    let site = Site::without_schema();
    let length = || site.redis().xlen::<_, usize>(names().events()).unwrap();
    let (mut slow, mut quick) = (consumer(&site, "slow"), consumer(&site, "quick"));
    assert_eq!(quick.trim().unwrap(), 0, "there is no stream");
    quick.ensure_group().unwrap();
    let jobs = site.jobs(1000);
    site.finish(&jobs);
    assert_eq!(quick.trim().unwrap(), 0, "nothing has been read");

    let settled = quick.read(400, NOT).unwrap();
    settle(&mut quick, &settled);
    let held = slow.read(1, NOT).unwrap();
    let settled = quick.read(400, NOT).unwrap();
    settle(&mut quick, &settled);
    // Whole nodes of the stream go, of at most 100 entries.
    let trimmed = quick.trim().unwrap();
    assert!((300..=400).contains(&trimmed), "{trimmed}");
    assert_eq!(length(), 1000 - trimmed);

    settle(&mut slow, &held);
    assert!(quick.trim().unwrap() >= 300);
    assert_eq!(
        quick.read(1000, NOT).unwrap().len(),
        199,
        "unread ones stay"
    );
}

#[test]
fn only_consumers_that_hold_nothing_are_buried() {
    let site = Site::without_schema();
    let mut living = consumer(&site, "living");
    assert_eq!(living.bury(NOT).unwrap(), 0, "there is no stream");
    living.ensure_group().unwrap();
    site.finish(&site.jobs(1));
    let mut holding = consumer(&site, "holding");
    assert_eq!(holding.read(1, NOT).unwrap().len(), 1);
    let mut idle = consumer(&site, "idle");
    assert!(idle.read(1, NOT).unwrap().is_empty());
    assert!(living.read(1, NOT).unwrap().is_empty());
    assert_eq!(living.bury(Duration::from_secs(60)).unwrap(), 0);
    assert_eq!(living.bury(NOT).unwrap(), 1);
    assert_eq!(site.pending(), 1);
}

#[test]
fn a_key_of_another_kind_stops_nobody() {
    let site = Site::without_schema();
    let mut stream = consumer(&site, "a");
    stream.ensure_group().unwrap();
    let jobs = site.jobs(2);
    site.finish(&jobs);
    let entries = stream.read(10, NOT).unwrap();
    let _: () = site.redis().del(names().open(site.server)).unwrap();
    let _: () = site.redis().set(names().open(site.server), "?").unwrap();
    settle(&mut stream, &entries);
    assert_eq!(site.pending(), 0);
}
