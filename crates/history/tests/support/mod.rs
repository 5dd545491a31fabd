//! What these tests share: a PostgreSQL of their own, and waiting.

// Not every test file uses all of it.
#![allow(dead_code)]

use imgsys_history::connect;
use imgsys_local::TestPostgres;
use std::time::{Duration, Instant};

/// A server without the schema.
pub(crate) fn empty() -> TestPostgres {
    TestPostgres::start().unwrap()
}

/// A server with the schema.
pub(crate) fn migrated() -> TestPostgres {
    let server = empty();
    imgsys_history::migrate(&mut connect(&server.url()).unwrap()).unwrap();
    server
}

/// A connection as the role that may do everything.
pub(crate) fn superuser(server: &TestPostgres) -> postgres::Client {
    connect(&server.url().replace("user=imgsys", "user=postgres")).unwrap()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
