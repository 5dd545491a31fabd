//! What the tests share.
#![allow(dead_code, reason = "each test uses its part")]

use imgsys_store::{Durability, Store, StoreOptions};
use imgsys_types::{
    Digest, Failure, FailureReason, Job, JobId, JobResult, Owner, Priority, ServerId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::{path::Path, process::Command};
use tempfile::TempDir;

pub(crate) fn options(dir: &Path, durability: Durability) -> StoreOptions {
    StoreOptions {
        dir: dir.into(),
        images_dir: None,
        durability,
        direct_io: true,
        min_free: 32 << 20,
    }
}

/// Opens a store that flushes nothing.
pub(crate) fn open(dir: &Path) -> Store {
    Store::open(options(dir, Durability::None)).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

pub(crate) fn owner(name: &str) -> Owner {
    name.parse().unwrap()
}

/// A fresh job of `local` for this image.
pub(crate) fn job(bytes: &[u8]) -> Job {
    Job {
        id: JobId::generate(),
        owner: Owner::local(),
        sha256: digest(bytes),
        name: "cat.jpg".into(),
        size: bytes.len() as u64,
        priority: Priority::default(),
        submitted_at: Timestamp::now(),
        server: ServerId::from_bytes([7; 16]),
    }
}

pub(crate) fn result(detail: &str) -> JobResult {
    JobResult::failed(0, Failure::new(FailureReason::Corrupt, detail))
}

/// Bytes that differ with the seed, the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A file system of its own, unmounted in the end.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// `None` where the test may not mount.
    pub(crate) fn mount(kind: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", kind, "-o", options, kind])
            .arg(dir.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success());
    }
}
