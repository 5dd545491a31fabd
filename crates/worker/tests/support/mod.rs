//! What these tests share: a queue, a worker and images.

// Not every test file uses all of it.
#![allow(dead_code)]

use image::{DynamicImage, ImageFormat};
use imgsys_local::{Service, Spec, TestRedis};
use imgsys_queue::{OpenState, Producer, Task};
use imgsys_types::{Digest, Job, JobId, JobResult, Owner, Priority, ServerId, Timestamp};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(crate) const CAT: &[u8] = include_bytes!("../../../analysis/tests/files/cat.jpg");
pub(crate) const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../analysis/tests/models/nchw.onnx"
);
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) redis: TestRedis,
    pub(crate) dir: TempDir,
    pub(crate) server: ServerId,
    pub(crate) producer: Producer,
}

impl World {
    pub(crate) fn new() -> Self {
        let redis = TestRedis::start().unwrap();
        let producer = Producer::new(&redis.url()).unwrap();
        Self {
            redis,
            dir: tempfile::tempdir().unwrap(),
            server: ServerId::generate(),
            producer,
        }
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) fn worker(&self, flags: &[&str]) -> Service {
        let images = format!("file://{}/", self.images().display());
        let spec = Spec::new("worker", env!("CARGO_BIN_EXE_imgsys-worker"))
            .args(["--redis-url", &self.redis.url()])
            .args(["--image-sources", &images])
            .args(["--http-listen", "127.0.0.1:0"])
            .args(flags);
        Service::new(spec, self.dir.path())
    }

    /// A worker with a model that tells red, green and blue apart.
    pub(crate) fn worker_with_model(&self, flags: &[&str]) -> Service {
        let labels = self.dir.path().join("colours.txt");
        fs::write(&labels, "red\ngreen\nblue\n").unwrap();
        let model = ["--onnx-model", MODEL, "--onnx-input-size", "8"];
        let labels = ["--onnx-labels", labels.to_str().unwrap()];
        let numbers = ["--onnx-mean", "0", "--onnx-scale", "255,255,255"];
        self.worker(&[&model[..], &labels, &numbers, flags].concat())
    }

    /// A task for these bytes, which are put where the worker looks for them.
    pub(crate) fn task(&self, bytes: &[u8]) -> Task {
        let sha256 = Digest::from_bytes(Sha256::digest(bytes).into());
        let name = sha256.to_string();
        let folder = self.images().join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&name), bytes).unwrap();
        Task {
            image_url: file_url(&folder.join(&name)),
            job: Job {
                id: JobId::generate(),
                owner: Owner::local(),
                sha256,
                name: "cat.jpg".into(),
                size: bytes.len() as u64,
                priority: Priority::default(),
                submitted_at: Timestamp::now(),
                server: self.server,
            },
            run: 0,
            accepted_at: Timestamp::now(),
            checksum: None,
        }
    }

    /// The results of these tasks, once all have ended.
    pub(crate) async fn results(&self, tasks: &[Task]) -> Vec<JobResult> {
        let jobs: Vec<_> = tasks.iter().map(|task| (task.job.id, task.run)).collect();
        let begun = Instant::now();
        loop {
            let states = self.producer.open_states(self.server, &jobs).await.unwrap();
            let results = states.into_iter().map(|state| match state {
                OpenState::Ended(record) => record.result,
                OpenState::Queued | OpenState::Absent => None,
            });
            if let Some(results) = results.collect() {
                return results;
            }
            assert!(begun.elapsed() < DEADLINE, "not all tasks have ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// The cat with a comment in it, so that its digest is its own.
pub(crate) fn cat_number(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let comment = [0xff, 0xfe, 0, 4, high, low];
    [&CAT[..2], &comment, &CAT[2..]].concat()
}

pub(crate) fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}
