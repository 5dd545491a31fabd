//! Clients end, or say things twice.

use super::{How, Mark};
use crate::{
    client::Connection,
    images::{Sample, sample},
    ledger::End,
    scene::{Scene, Stage, program, until},
};
use anyhow::{Context, ensure};
use imgsys_types::{Digest, JobId};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

/// `imgsys` is given none.
pub(super) fn without_tokens(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tokens = false;
    Ok(())
}

/// Images as files, which no other client has.
pub(super) fn files(folder: &Path, first: u64, count: u64) -> anyhow::Result<Vec<Sample>> {
    fs::create_dir_all(folder)?;
    let mut samples = Vec::new();
    for number in first..first + count {
        let image = sample(u64::MAX - number, 60);
        fs::write(folder.join(format!("{number}.bmp")), &image.bytes)?;
        samples.push(image);
    }
    Ok(samples)
}

/// `imgsys send` ends before it has told all; `imgsys wait` is given the jobs that it has told of.
pub(super) fn resumed(scene: &Scene, how: How) -> anyhow::Result<Mark> {
    scene.await_answers(20)?;
    let folder = scene.dir().join("pictures");
    let samples = files(&folder, 1, 300)?;
    let told = scene.dir().join("told");
    let address = scene.stack().address();
    let mut sender = Command::new(program("imgsys")?)
        .args([
            "--server",
            &address,
            "--quiet",
            "send",
            "--no-wait",
            "-j",
            "8",
        ])
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(File::create(&told)?)
        .stderr(File::create(scene.dir().join("client.log"))?)
        .spawn()
        .context("starting imgsys")?;
    let read = || -> anyhow::Result<Vec<JobId>> {
        let text = fs::read_to_string(&told)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| Ok(line.trim().parse()?)).collect()
    };
    until("some to be accepted", || Ok(read()?.len() >= 20))?;
    let signal = match how {
        How::Kill => Signal::KILL,
        How::Term => Signal::TERM,
    };
    kill_process(Pid::from_child(&sender), signal)?;
    sender.wait()?;
    let jobs = read()?;
    let waited = Command::new(program("imgsys")?)
        .args(["--server", &address, "wait", "--json"])
        .args(jobs.iter().map(ToString::to_string))
        .output()
        .context("starting imgsys")?;
    let lines = String::from_utf8_lossy(&waited.stdout);
    let done = lines
        .lines()
        .filter(|line| line.contains("\"done\""))
        .count();
    ensure!(waited.status.success(), "imgsys wait: {waited:?}");
    ensure!(done == jobs.len(), "{done} answers to {} jobs", jobs.len());
    // What it was not told of may have been accepted all the same.
    adopt(scene, &address, &samples, &jobs)?;
    Ok(Mark::Nothing)
}

/// Enters all jobs with these images into the ledger, whoever has sent them, and waits for the
/// answers.
fn adopt(scene: &Scene, address: &str, samples: &[Sample], told: &[JobId]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let history = runtime.block_on(async {
        let mut connection = Connection::open(address, None).await?;
        connection.history().await
    })?;
    let by_digest: HashMap<_, _> = samples.iter().map(|image| (image.sha256, image)).collect();
    let mut adopted = Vec::new();
    for record in history {
        if let Some(image) = by_digest.get(&record.job.sha256) {
            adopted.push(Sample {
                job: record.job.id,
                ..(*image).clone()
            });
        }
    }
    for job in told {
        ensure!(
            adopted.iter().any(|image| image.job == *job),
            "{job} was told to be accepted, and is in no history"
        );
    }
    enter(scene, &adopted)
}

fn enter(scene: &Scene, samples: &[Sample]) -> anyhow::Result<()> {
    let owner = scene.person()?.owner.clone();
    for image in samples {
        scene.ledger().sends(image, &owner, End::Done);
        scene.ledger().accepted(image.job);
    }
    scene.watch(samples)
}

/// Enters what `imgsys send --json` has sent and told into the ledger.
pub(super) fn enter_answers(
    scene: &Scene,
    samples: Vec<Sample>,
    lines: &str,
) -> anyhow::Result<()> {
    let mut told = HashMap::new();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = |key| {
            line.get(key)
                .and_then(|value: &serde_json::Value| value.as_str())
        };
        let job: JobId = text("job").context("a line without a job")?.parse()?;
        let sha256: Digest = text("sha256").context("a line without a digest")?.parse()?;
        told.insert(sha256, job);
    }
    let mut sent = Vec::new();
    for image in samples {
        let job = told.get(&image.sha256).copied();
        let job = job.context("an image without an answer")?;
        sent.push(Sample { job, ..image });
    }
    enter(scene, &sent)
}

/// The same jobs come over two connections at once, and both are answered.
pub(super) fn same_job_twice(scene: &Scene) -> anyhow::Result<Mark> {
    let samples: Vec<Sample> = (1..=100).map(|n| sample(u64::MAX - n, 40)).collect();
    std::thread::scope(|threads| {
        let first = threads.spawn(|| scene.send(&samples, End::Done));
        scene.send(&samples, End::Done)?;
        first
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the first one panicked"))
    })?;
    Ok(Mark::Nothing)
}
