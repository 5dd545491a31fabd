//! A PostgreSQL that falls silent holds nobody for ever.

#![allow(clippy::unwrap_used)]

mod support;

use imgsys_history::{WriteError, Writer};
use imgsys_local::{
    TestPostgres,
    between::{Between, Ear, Passage},
};
use imgsys_types::{JobRecord, arbitrary};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::migrated;

/// What lies between a client and PostgreSQL's socket, and may swallow all that is said.
struct Swallower {
    between: Between,
    swallows: Arc<AtomicBool>,
}

impl Swallower {
    fn before(server: &TestPostgres) -> Self {
        let host = server.url();
        let host = host.split('\'').nth(1).unwrap();
        let socket = Path::new(host).join(".s.PGSQL.5432");
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowing = Arc::clone(&swallows);
        let ear = move || -> Ear {
            let swallowing = Arc::clone(&swallowing);
            Box::new(move |_| {
                if swallowing.load(Ordering::Relaxed) {
                    Passage::Lost
                } else {
                    Passage::On
                }
            })
        };
        let between = Between::before(&socket, move || (ear(), ear())).unwrap();
        Self { between, swallows }
    }

    fn url(&self, server: &TestPostgres) -> String {
        let url = server.url();
        let rest = url.rsplit('\'').next().unwrap();
        format!("host='{}'{rest}", self.between.folder().display())
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
