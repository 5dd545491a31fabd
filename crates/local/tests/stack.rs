//! The whole system: its parts are killed and come back.

use assert_cmd::Command;
use imgsys_local::{Error, Stack};
use std::{path::Path, time::Duration};

const CAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/cat.jpg");

fn client(stack: &Stack) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_imgsys-local")).with_file_name("imgsys");
    let mut command = Command::new(program);
    command.env("IMGSYS_SERVER", stack.address());
    command.timeout(Duration::from_secs(120));
    command
}

fn send(stack: &Stack) {
    client(stack).args(["send", CAT]).assert().success();
}

#[test]
fn every_part_can_be_killed_and_started_again() {
    let stack = Stack::builder().workers(2).start().unwrap();
    let (address, http) = (stack.address(), stack.http_address());
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(http.as_ref().is_some_and(|http| *http != address));
    send(&stack);

    stack.server().kill();
    stack.server().start().unwrap();
    assert_eq!((stack.address(), stack.http_address()), (address, http));
    send(&stack);

    for part in [stack.persister(), &stack.workers()[0], &stack.workers()[1]] {
        let before = part.pid();
        part.kill();
        assert_eq!(part.pid(), None);
        part.start().unwrap();
        assert_ne!(part.pid(), before);
    }
    stack.redis().kill();
    stack.postgres().kill();
    stack.redis().start().unwrap();
    stack.postgres().start().unwrap();
    send(&stack);
    assert!(stack.death().is_none());
    stack.stop();
}

#[test]
fn settings_reach_the_programs() {
    let stack = Stack::builder()
        .set("limits.max_image", "1KiB")
        .start()
        .unwrap();
    client(&stack).args(["send", CAT]).assert().code(1);
    stack.set("limits.max_image", "1MiB").unwrap();
    stack.server().restart().unwrap();
    stack.workers()[0].restart().unwrap();
    send(&stack);
}

#[test]
fn a_wrong_setting_is_an_error() {
    let error = Stack::builder().set("delay", "1s").start().unwrap_err();
    assert!(matches!(error, Error::Key { .. }), "{error}");
    let error = Stack::builder()
        .set("server.colour", "red")
        .start()
        .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("migrate ended: exit status: 2"), "{text}");
    assert!(text.contains("colour"), "{text}");
}

#[test]
fn dropped_it_leaves_nothing() {
    let stack = Stack::builder().start().unwrap();
    let dir = stack.dir().to_owned();
    let pids: Vec<u32> = [
        stack.server(),
        stack.persister(),
        stack.redis().service(),
        stack.postgres().service(),
    ]
    .into_iter()
    .chain(stack.workers())
    .map(|part| part.pid().unwrap())
    .collect();
    assert!(stack.config_file().exists());
    drop(stack);
    assert!(!dir.exists());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
