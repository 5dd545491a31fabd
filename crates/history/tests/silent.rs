//! A PostgreSQL that falls silent holds nobody for ever.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{WriteError, Writer};
use imgsys_local::TestPostgres;
use imgsys_types::{JobRecord, arbitrary};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::migrated;

/// What lies between a client and PostgreSQL's socket, and may swallow all that is said.
struct Swallower {
    dir: tempfile::TempDir,
    swallows: Arc<AtomicBool>,
}

impl Swallower {
    fn before(server: &TestPostgres) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = server.url();
        let host = host.split('\'').nth(1).unwrap();
        let socket = Path::new(host).join(".s.PGSQL.5432");
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowing = Arc::clone(&swallows);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = UnixStream::connect(&socket).unwrap();
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                ] {
                    let swallowing = Arc::clone(&swallowing);
                    thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            if !swallowing.load(Ordering::Relaxed)
                                && to.write_all(&bytes[..read]).is_err()
                            {
                                break;
                            }
                        }
                    });
                }
            }
        });
        Self { dir, swallows }
    }

    fn url(&self, server: &TestPostgres) -> String {
        let url = server.url();
        let rest = url.rsplit('\'').next().unwrap();
        format!("host='{}'{rest}", self.dir.path().display())
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let server = migrated();
    let between = Swallower::before(&server);
    let url = between.url(&server);
    let limit = Duration::from_secs(1);
    let record = JobRecord {
        job: arbitrary::job()
            .new_tree(&mut TestRunner::default())
            .unwrap()
            .current(),
        result: None,
    };
    let mut writer = Writer::connect_within(&url, limit).unwrap();
    let _ = writer.write(&[&record]).unwrap();
    between.swallows.store(true, Ordering::Relaxed);
    let silent = |error| matches!(error, WriteError::Silent(_) | WriteError::Unavailable(_));
    let begun = Instant::now();
    assert!(silent(writer.write(&[&record]).unwrap_err()));
    assert!(silent(Writer::connect_within(&url, limit).unwrap_err()));
    assert!(begun.elapsed() < Duration::from_secs(20));
    between.swallows.store(false, Ordering::Relaxed);
    let mut writer = Writer::connect_within(&url, limit * 20).unwrap();
    let _ = writer.write(&[&record]).unwrap();
}
