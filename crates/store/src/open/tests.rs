//! What is found after a flush that failed or was cut short.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::{Accepted, Image, log::SegmentFile};
use bytes::Bytes;
use imgsys_types::{Job, JobId, Owner, Priority, Timestamp};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
};

pub(super) fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        dir: dir.into(),
        images_dir: None,
        durability: Durability::Fsync,
        direct_io: true,
        min_free: 32 << 20,
    }
}

pub(super) fn job_of(bytes: &[u8]) -> Job {
    Job {
        id: JobId::generate(),
        owner: Owner::local(),
        sha256: Digest::from_bytes(Sha256::digest(bytes).into()),
        name: "cat.jpg".into(),
        size: bytes.len() as u64,
        priority: Priority::default(),
        submitted_at: Timestamp::now(),
        server: ServerId::generate(),
    }
}

/// A disk whose flushes of the log fail once `fails` is set.
#[derive(Debug)]
struct Failing {
    disk: Directory,
    fails: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingFile(Arc<dyn SegmentFile>, Arc<AtomicBool>);

impl Disk for Failing {
    fn segments(&self) -> io::Result<Vec<u32>> {
        self.disk.segments()
    }
    fn open(&self, segment: u32) -> io::Result<Arc<dyn SegmentFile>> {
        let (file, fails) = (self.disk.open(segment)?, Arc::clone(&self.fails));
        Ok(Arc::new(FailingFile(file, fails)))
    }
    fn remove(&self, segment: u32) -> io::Result<()> {
        self.disk.remove(segment)
    }
    fn path(&self, segment: u32) -> PathBuf {
        self.disk.path(segment)
    }
    fn flush_entries(&self) -> io::Result<()> {
        self.disk.flush_entries()
    }
    fn flush_images(&self) -> io::Result<()> {
        self.disk.flush_images()
    }
}

impl SegmentFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, out)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn cut(&self, len: u64) -> io::Result<()> {
        self.0.cut(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.0.reserve(len)
    }
    fn flush(&self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is on fire"));
        }
        self.0.flush()
    }
    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_accepted_until_it_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let backend = |file| FileBackend::new(file).map_err(database(OPENING));
    let disk = |disk| -> Arc<dyn Disk> {
        let fails = Arc::clone(&fails);
        Arc::new(Failing { disk, fails })
    };
    let store = Store::open_on(options(dir.path()), TUNING, backend, disk).unwrap();
    let kept = job_of(b"kept");
    let bytes = Image::Bytes(Bytes::from_static(b"kept"));
    let accepted = store.accept(kept.clone(), bytes).await.unwrap();
    assert!(matches!(
        accepted,
        Accepted::New {
            duplicate: false,
            ..
        }
    ));

    fails.store(true, Ordering::SeqCst);
    let lost = job_of(b"lost");
    let image = || Image::Bytes(Bytes::from_static(b"lost"));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (store, lost, image) = (store.clone(), lost.clone(), image());
            tokio::spawn(async move { store.accept(lost, image).await })
        })
        .collect();
    for refused in waiting {
        let refused = refused.await.unwrap();
        assert!(matches!(refused, Err(StoreError::Broken)), "{refused:?}");
    }
    store.broken().await;

    // The disk is well again, but who knows what it kept.
    fails.store(false, Ordering::SeqCst);
    let refused = store.accept(lost.clone(), image()).await;
    assert!(matches!(refused, Err(StoreError::Broken)), "{refused:?}");
    assert!(matches!(store.upload(), Err(StoreError::Broken)));
    store.close().await;

    let store = Store::open(options(dir.path())).unwrap();
    assert_eq!(store.get(kept.id).unwrap().unwrap().run.job, kept);
    let accepted = store.accept(lost, image()).await.unwrap();
    assert!(matches!(accepted, Accepted::New { .. } | Accepted::Same(_)));
}

/// A copy of an open store's directory: what a crash at this moment would leave.
fn crash(store: &Store, from: &Path, to: &Path) {
    let image_dir = to.join("images");
    fs::create_dir_all(&image_dir).unwrap();
    fs::copy(from.join("spool.redb"), to.join("spool.redb")).unwrap();
    fs::create_dir(to.join("spool")).unwrap();
    for segment in fs::read_dir(from.join("spool")).unwrap() {
        let segment = segment.unwrap();
        fs::copy(segment.path(), to.join("spool").join(segment.file_name())).unwrap();
    }
    for fan in fs::read_dir(store.images_dir()).unwrap() {
        let fan = fan.unwrap();
        let copy = image_dir.join(fan.file_name());
        fs::create_dir(&copy).unwrap();
        for image in fs::read_dir(fan.path()).unwrap() {
            let image = image.unwrap();
            fs::copy(image.path(), copy.join(image.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_record_that_reached_the_disk_without_its_image_was_never_accepted() {
    let (dir, whole, cut) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let store = Store::open(options(dir.path())).unwrap();
    let (before, last) = (job_of(b"before"), job_of(b"last"));
    for (job, bytes) in [(&before, b"before".as_slice()), (&last, b"last")] {
        let image = Image::Bytes(Bytes::from_static(bytes));
        store.accept(job.clone(), image).await.unwrap();
    }
    crash(&store, dir.path(), whole.path());
    crash(&store, dir.path(), cut.path());

    let store = Store::open(options(whole.path())).unwrap();
    assert_eq!(store.len(), 2);
    assert!(store.knows(&last.owner, &last.sha256).unwrap());

    let image = |job: &Job| {
        let name = job.sha256.to_string();
        cut.path().join("images").join(&name[..2]).join(name)
    };
    // As long as it should be, but with other bytes; and likewise an image of an earlier commit,
    // which is none of the spool's business any more.
    fs::write(image(&last), b"LAST").unwrap();
    fs::write(image(&before), b"BEFORE").unwrap();
    let store = Store::open(options(cut.path())).unwrap();
    assert!(store.get(before.id).unwrap().is_some());
    assert!(store.get(last.id).unwrap().is_none());
    assert!(!store.knows(&last.owner, &last.sha256).unwrap());
    let again = store.accept(last.clone(), Image::Known).await.unwrap();
    assert!(matches!(again, Accepted::NotKnown));
    let bytes = Image::Bytes(Bytes::from_static(b"last"));
    let again = store.accept(last.clone(), bytes).await.unwrap();
    assert!(matches!(
        again,
        Accepted::New {
            duplicate: false,
            ..
        }
    ));
    assert_eq!(fs::read(image(&last)).unwrap(), b"last");
}
