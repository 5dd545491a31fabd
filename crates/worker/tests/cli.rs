//! The program `imgsys-worker`: its flags, its errors, its life without Redis.

#![allow(clippy::unwrap_used)]

use assert_cmd::Command;
use imgsys_local::{Service, Spec};
use predicates::{
    prelude::*,
    str::{contains, starts_with},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, time::Duration};

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgsys-worker");

fn worker() -> Command {
    Command::new(PROGRAM)
}

fn one_line() -> impl Predicate<str> {
    predicate::function(|text: &str| text.lines().count() == 1)
}

#[test]
fn help_and_version() {
    let flags = [
        "--config",
        "--threads",
        "--prefetch",
        "--image-sources",
        "--decode",
        "--delay",
        "--onnx-model",
        "--max-stuck",
        "--redis-url",
        "--max-pixels",
        "IMGSYS_WORKER_THREADS",
    ];
    let mut help = worker().arg("--help").assert().success();
    for flag in flags {
        help = help.stdout(contains(flag));
    }
    let version = format!("imgsys-worker {}\n", env!("CARGO_PKG_VERSION"));
    worker().arg("--version").assert().success().stdout(version);
}

#[test]
fn a_wrong_flag_is_told_with_code_2() {
    worker()
        .arg("--thread-count=3")
        .assert()
        .code(2)
        .stderr(contains("--thread-count"));
    worker()
        .args(["--decode", "half"])
        .assert()
        .code(2)
        .stderr(contains("full").and(contains("header")));
}

#[test]
fn a_wrong_key_is_one_line_with_file_key_and_what_is_allowed() {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    for (text, key, allowed) in [
        ("[worker]\nthread = 3", "worker", "`threads`"),
        ("[worker]\ndecode = \"half\"", "worker.decode", "`header`"),
        ("[worker.onnx]\nmodels = \"x\"", "worker.onnx", "`model`"),
        (
            "[worker.onnx]\nmean = \"x\"",
            "worker.onnx.mean",
            "sequence",
        ),
        ("[worker]\ndelay = 3", "worker.delay", "a duration"),
    ] {
        fs::write(file.path(), text).unwrap();
        let begin = format!("imgsys-worker: {}: {key}", file.path().display());
        worker()
            .arg("--config")
            .arg(file.path())
            .assert()
            .code(2)
            .stderr(starts_with(begin).and(contains(allowed)).and(one_line()));
    }
}

#[test]
fn an_image_source_that_makes_no_sense_is_told_with_code_2() {
    worker()
        .args(["--image-sources", "/srv/images"])
        .assert()
        .code(2)
        .stderr(starts_with("imgsys-worker: worker.image_sources: ").and(one_line()));
}

#[test]
fn without_redis_it_waits_says_so_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("unix://{}/no-redis", dir.path().display());
    let spec = Spec::new("worker", PROGRAM).args(["--http-listen", "", "--redis-url", &nowhere]);
    let service = Service::new(spec, dir.path());
    service.start().unwrap();
    let name = service.fact("WORKER").unwrap();
    let (random, host) = name
        .strip_prefix("imgsys-")
        .unwrap()
        .split_once('@')
        .unwrap();
    assert_eq!(random.len(), 8, "{name}");
    assert!(!host.is_empty(), "{name}");
    assert!(service.exit().is_none());

    let pid = Pid::from_raw(service.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = service.wait(Duration::from_secs(30)).unwrap();
    let log = service.last_lines().join("\n");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("waits for Redis"), "{log}");
    assert!(log.contains("has ended"), "{log}");
}

#[test]
fn a_classifier_that_can_not_be_is_told_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../analysis/tests/models");
    let model = dir.path().join("model.onnx");
    fs::copy(format!("{models}/nchw.onnx"), &model).unwrap();
    let labels = dir.path().join("two.txt");
    fs::write(&labels, "red\ngreen\n").unwrap();
    let [model, labels] = [&model, &labels].map(|path| path.to_str().unwrap());
    let missing = dir.path().join("none.onnx").display().to_string();
    let small = ["--onnx-input-size", "8"];
    for (flags, begin, told) in [
        (&["--classifier", "onnx"][..], "model: ", "needs a model"),
        (
            &["--onnx-model", &missing],
            "model: ",
            "none.onnx: No such file",
        ),
        (
            &["--onnx-model", model],
            "labels: ",
            "labels.txt: No such file",
        ),
        (
            &["--onnx-model", model, "--onnx-labels", labels],
            "model: ",
            "is 1x3x8x8 of F32, but size and layout make it 1x3x224x224",
        ),
        (
            &[
                &["--onnx-model", model, "--onnx-labels", labels],
                &small[..],
            ]
            .concat(),
            "labels: ",
            "tells 3 labels apart, but there are 2 labels",
        ),
        (
            &[
                "--onnx-model",
                model,
                "--onnx-labels",
                labels,
                "--onnx-crop",
                "2",
            ],
            "crop: ",
            "at most 1",
        ),
        (
            &["--onnx-model", model, "--onnx-mean", "1,2"],
            "mean: ",
            "2 numbers: give one, or three",
        ),
    ] {
        let begin = format!("imgsys-worker: worker.onnx.{begin}");
        let told = starts_with(begin).and(contains(told)).and(one_line());
        worker().args(flags).assert().code(2).stderr(told);
    }
}
