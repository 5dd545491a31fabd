//! The bytes of version 1, one frame a file: what was written once is read for ever.
//!
//! After a deliberate change, `UPDATE_GOLDEN=1 cargo test -p imgsys-proto golden` writes them anew.

use crate::support::{Message, fixtures, fixtures::Fixture, frame, name_of, names, parts, schema};
use imgsys_proto::decode;
use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn path<M: Message>(fixture: &Fixture<M>) -> PathBuf {
    folder().join(format!("{}-{}.hex", M::SIDE, fixture.file))
}

/// Lines of 32 bytes.
fn to_hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| hex::encode(line) + "\n");
    lines.collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn check<M: Message>(fixtures: &[Fixture<M>]) {
    let told: BTreeSet<_> = fixtures.iter().map(|f| name_of(&f.message)).collect();
    let all: BTreeSet<_> = names::<M>().into_iter().collect();
    assert_eq!(told, all, "a message has no golden frame");
    for fixture in fixtures {
        let path = path(fixture);
        let bytes = frame(&fixture.message, fixture.body);
        if env::var_os("UPDATE_GOLDEN").is_some_and(|set| set == OsStr::new("1")) {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, to_hex(&bytes)).unwrap();
        }
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text, to_hex(&bytes), "{} has other bytes", path.display());
        let golden = from_hex(&text);
        let (_, head, body) = parts(&golden);
        assert_eq!(decode::<M>(head).unwrap(), fixture.message);
        assert_eq!(body, fixture.body);
        schema::validate::<M>(head).unwrap_or_else(|error| panic!("{}: {error}", fixture.file));
    }
}

#[test]
fn client_frames_are_what_they_were() {
    check(&fixtures::client());
}

#[test]
fn server_frames_are_what_they_were() {
    check(&fixtures::server());
}

#[test]
fn no_golden_frame_is_left_over() {
    let client = fixtures::client();
    let server = fixtures::server();
    let known: BTreeSet<_> = client
        .iter()
        .map(path)
        .chain(server.iter().map(path))
        .collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        assert!(known.contains(&path), "{} is nobody's", path.display());
    }
}
