//! The filters of a history request, made into SQL.
#![no_main]

use imgsys_proto::{ClientMessage, decode};
use imgsys_types::{Owner, Whose};
use libfuzzer_sys::fuzz_target;

// The history's own modules, without what talks to PostgreSQL.
#[allow(dead_code)]
#[path = "../../crates/history/src/query.rs"]
mod query;
#[allow(dead_code)]
#[path = "../../crates/history/src/value.rs"]
mod value;

fuzz_target!(|head: &[u8]| {
    let Ok(ClientMessage::History(request)) = decode(head) else {
        return;
    };
    for whose in [Whose::One(Owner::local()), Whose::All] {
        let query = query::Query::page(&whose, &request.filter, request.after, request.limit);
        let params = query.params().len();
        for number in 1..=params {
            assert!(query.sql.contains(&format!("${number}")), "{}", query.sql);
        }
        assert!(!query.sql.contains(&format!("${}", params + 1)));
        // The only texts in the statement are the states' names.
        let mut quoted = query.sql.split('\'').skip(1).step_by(2);
        assert!(quoted.all(|text| ["queued", "done", "failed"].contains(&text)));
        assert!(query.sql.is_ascii());
    }
});
