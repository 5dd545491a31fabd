//! What the store promises, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{job, noise, open, options, owner, result};
use imgsys_store::{Accepted, Durability, Image, SMALL_IMAGE, Store, StoreError};
use imgsys_types::Job;
use std::{fs, io::Write, process::Command};
use tempfile::tempdir;

fn bytes(bytes: &[u8]) -> Image {
    Image::Bytes(Bytes::copy_from_slice(bytes))
}

async fn accept(store: &Store, job: &Job, image: Image) -> Accepted {
    store.accept(job.clone(), image).await.unwrap()
}

#[tokio::test]
async fn image_and_record_are_there_after_opening_again() {
    let dir = tempdir().unwrap();
    for durability in [Durability::Fsync, Durability::None] {
        for len in [0, 10_000, SMALL_IMAGE, SMALL_IMAGE + 1, 1_000_000] {
            let image = noise(len as u64, len);
            let job = job(&image);
            let store = Store::open(options(dir.path(), durability)).unwrap();
            let server = store.server_id();
            let accepted = accept(&store, &job, bytes(&image)).await;
            let first = durability == Durability::Fsync;
            assert!(matches!(accepted, Accepted::New { duplicate, .. } if duplicate != first));
            store.close().await;

            let store = open(dir.path());
            assert_eq!(store.server_id(), server);
            assert_eq!(store.get(job.id).unwrap().unwrap().run.job, job);
            assert!(store.knows(&job.owner, &job.sha256).unwrap());
            assert_eq!(fs::read(store.image_path(&job.sha256)).unwrap(), image);
        }
    }
}

#[tokio::test]
async fn an_image_is_known_to_its_owner_alone() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let mine = job(b"an image");
    let theirs = Job {
        owner: owner("mallory"),
        ..job(b"an image")
    };
    let known = accept(&store, &mine, Image::Known).await;
    assert!(matches!(known, Accepted::NotKnown));
    accept(&store, &mine, bytes(b"an image")).await;
    assert!(!store.knows(&theirs.owner, &theirs.sha256).unwrap());
    let known = accept(&store, &theirs, Image::Known).await;
    assert!(matches!(known, Accepted::NotKnown));
    let sent = accept(&store, &theirs, bytes(b"an image")).await;
    assert!(matches!(
        sent,
        Accepted::New {
            duplicate: false,
            ..
        }
    ));
    let again = accept(&store, &job(b"an image"), Image::Known).await;
    assert!(matches!(
        again,
        Accepted::New {
            duplicate: true,
            ..
        }
    ));
}

#[tokio::test]
async fn an_image_whose_file_is_gone_or_cut_is_not_known_and_comes_back() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let first = job(b"an image");
    accept(&store, &first, bytes(b"an image")).await;
    let path = store.image_path(&first.sha256);
    for harm in [|path| fs::remove_file(path), |path| fs::write(path, b"an")] {
        harm(&path).unwrap();
        assert!(!store.knows(&first.owner, &first.sha256).unwrap());
        let known = accept(&store, &job(b"an image"), Image::Known).await;
        assert!(matches!(known, Accepted::NotKnown));
        accept(&store, &job(b"an image"), bytes(b"an image")).await;
        assert_eq!(fs::read(&path).unwrap(), b"an image");
        assert!(store.knows(&first.owner, &first.sha256).unwrap());
    }
}

#[tokio::test]
async fn the_same_id_is_the_same_job_or_a_conflict() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let first = job(b"an image");
    accept(&store, &first, bytes(b"an image")).await;
    store.set_result(first.id, result("bad")).await.unwrap();
    let later = Job {
        name: "another name".into(),
        submitted_at: imgsys_types::Timestamp::now(),
        ..first.clone()
    };
    for image in [Image::Known, bytes(b"an image")] {
        let Accepted::Same(record) = accept(&store, &later, image).await else {
            panic!("not the same");
        };
        assert_eq!(record.run.job, first);
        assert!(record.result.is_some());
    }
    let other_owner = Job {
        owner: owner("mallory"),
        ..first.clone()
    };
    let other_image = Job {
        id: first.id,
        ..job(b"another image")
    };
    let accepted = accept(&store, &other_owner, bytes(b"an image")).await;
    assert!(matches!(accepted, Accepted::Conflict));
    let accepted = accept(&store, &other_image, bytes(b"another image")).await;
    assert!(matches!(accepted, Accepted::Conflict));
    assert_eq!(store.len(), 1);
    assert!(!store.knows(&other_owner.owner, &first.sha256).unwrap());
    assert!(!store.image_path(&other_image.sha256).exists());
}

#[tokio::test]
async fn the_same_job_sixty_four_times_at_once_is_one_job() {
    let dir = tempdir().unwrap();
    let store = Store::open(options(dir.path(), Durability::Fsync)).unwrap();
    let image = noise(1, 10_000);
    let job = job(&image);
    let tasks = (0..64).map(|_| {
        let (store, job, image) = (store.clone(), job.clone(), bytes(&image));
        tokio::spawn(async move { store.accept(job, image).await.unwrap() })
    });
    let mut new = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Accepted::New { .. } => new += 1,
            Accepted::Same(record) => assert_eq!(record.run.job, job),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new, store.len()), (1, 1));
}

#[tokio::test]
async fn bytes_that_are_not_the_job_s_are_refused() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    for len in [10, SMALL_IMAGE + 10] {
        let image = noise(1, len);
        let job = job(&image);
        let shorter = store.accept(job.clone(), bytes(&image[1..])).await;
        assert!(
            matches!(shorter, Err(StoreError::SizeMismatch { found, .. }) if found == len as u64 - 1)
        );
        let mut upload = store.upload().unwrap();
        upload.write(&noise(2, len)).await.unwrap();
        let other = store.accept(job.clone(), Image::Upload(upload)).await;
        assert!(
            matches!(other, Err(StoreError::DigestMismatch { announced, .. }) if announced == job.sha256)
        );
        assert!(store.get(job.id).unwrap().is_none());
        assert!(!store.knows(&job.owner, &job.sha256).unwrap());
    }
    assert_eq!(incoming(&store), 0);
}

fn incoming(store: &Store) -> usize {
    let dir = store.images_dir().join("incoming");
    fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn an_upload_in_pieces_is_whole_and_one_given_up_leaves_nothing() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let image = noise(3, 700_001);
    for piece in [1000, 65_536, 300_000, 700_001] {
        let mut upload = store.upload().unwrap();
        for piece in image.chunks(piece) {
            upload.write(piece).await.unwrap();
        }
        assert_eq!(upload.size(), 700_001);
        accept(&store, &job(&image), Image::Upload(upload)).await;
        assert_eq!(
            fs::read(store.image_path(&job(&image).sha256)).unwrap(),
            image
        );
        fs::remove_file(store.image_path(&job(&image).sha256)).unwrap();
    }
    let mut upload = store.upload().unwrap();
    upload.write(&image).await.unwrap();
    assert_eq!(incoming(&store), 1);
    drop(upload);
    assert_eq!(incoming(&store), 0);
}

#[tokio::test]
async fn leftovers_of_uploads_are_gone_after_opening() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    // What a killed server leaves.
    let left = store.images_dir().join("incoming/17");
    fs::write(left, noise(4, 100_000)).unwrap();
    store.close().await;
    assert_eq!(incoming(&open(dir.path())), 0);
}

#[tokio::test]
async fn the_first_result_stands() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let job = job(b"an image");
    let (first, second) = (result("first"), result("second"));
    assert_eq!(store.set_result(job.id, first.clone()).await.unwrap(), None);
    accept(&store, &job, bytes(b"an image")).await;
    for offered in [&first, &second] {
        let stands = store.set_result(job.id, offered.clone()).await.unwrap();
        assert_eq!(stands.as_ref(), Some(&first));
    }
    store.close().await;
    let record = open(dir.path()).get(job.id).unwrap().unwrap();
    assert_eq!(record.result, Some(first));
}

#[tokio::test]
async fn removals_need_no_other_commit_and_last() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let job = job(b"an image");
    accept(&store, &job, bytes(b"an image")).await;
    store.remove(vec![job.id, imgsys_types::JobId::generate()]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !store.is_empty() {
        assert!(std::time::Instant::now() < deadline, "never removed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(store.get(job.id).unwrap().is_none());
    // The file stays: that the owner has sent it is still known.
    assert!(store.knows(&job.owner, &job.sha256).unwrap());
    store.close().await;
    assert_eq!(open(dir.path()).len(), 0);
}

#[tokio::test]
async fn images_may_be_elsewhere() {
    let (dir, images) = (tempdir().unwrap(), tempdir().unwrap());
    let mut options = options(dir.path(), Durability::Fsync);
    options.images_dir = Some(images.path().join("deep/down"));
    let store = Store::open(options).unwrap();
    let job = job(b"an image");
    accept(&store, &job, bytes(b"an image")).await;
    let path = store.image_path(&job.sha256);
    assert!(path.starts_with(images.path().join("deep/down")));
    assert_eq!(fs::read(path).unwrap(), b"an image");
}

const OTHER: &str = "IMGSYS_STORE_TEST_OPENS";

#[test]
fn another_process_is_refused() {
    if let Some(dir) = std::env::var_os(OTHER) {
        let refused = Store::open(options(dir.as_ref(), Durability::None)).unwrap_err();
        writeln!(std::io::stdout(), "refused: {refused}").unwrap();
        return;
    }
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_is_refused", "--nocapture"])
        .env(OTHER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("refused: {} is in use", dir.path().display());
    assert!(said.contains(&expected), "{said}");
    // Images of two servers must not share a directory either.
    let other = tempdir().unwrap();
    let mut shared = options(other.path(), Durability::None);
    shared.images_dir = Some(store.images_dir().into());
    assert!(matches!(
        Store::open(shared),
        Err(StoreError::Locked { .. })
    ));
    drop(store);
    open(dir.path());
}
