//! Image files go when nobody needs them, and only then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{job, noise, open, owner};
use imgsys_store::{Accepted, Image, Store, StoreError};
use imgsys_types::{Digest, Job};
use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

async fn accept(store: &Store, job: &Job, image: Image) -> Accepted {
    store.accept(job.clone(), image).await.unwrap()
}

async fn remove(store: &Store, images: &[Digest]) -> Vec<Digest> {
    let nobody = async |_: &[Digest]| Ok::<_, StoreError>(HashSet::new());
    store.remove_images(images.to_vec(), nobody).await.unwrap()
}

#[tokio::test]
async fn an_image_stays_while_a_job_in_the_spool_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let image = noise(1, 5000);
    let first = job(&image);
    accept(&store, &first, Image::Bytes(image.clone().into())).await;
    let path = store.image_path(&first.sha256);
    assert_eq!(remove(&store, &[first.sha256]).await, []);
    assert!(path.exists());

    store.remove(vec![first.id]);
    store.flush().await.unwrap();
    let needed = async |asked: &[Digest]| Ok::<_, StoreError>(asked.iter().copied().collect());
    let gone = store.remove_images(vec![first.sha256], needed).await;
    assert_eq!(gone.unwrap(), []);
    assert!(path.exists());
    assert_eq!(remove(&store, &[first.sha256]).await, [first.sha256]);
    assert!(!path.exists());

    // It has to be sent again, by everybody.
    for name in ["local", "anna"] {
        let mut again = job(&image);
        again.owner = owner(name);
        let answer = accept(&store, &again, Image::Known).await;
        assert!(matches!(answer, Accepted::NotKnown), "{answer:?}");
    }
    let again = job(&image);
    let answer = accept(&store, &again, Image::Bytes(image.into())).await;
    assert!(
        matches!(
            answer,
            Accepted::New {
                duplicate: false,
                ..
            }
        ),
        "{answer:?}"
    );
    assert!(path.exists());
}

#[tokio::test]
async fn an_image_that_comes_again_meanwhile_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let image = noise(1, 5000);
    let first = job(&image);
    accept(&store, &first, Image::Bytes(image.clone().into())).await;
    store.remove(vec![first.id]);
    store.flush().await.unwrap();
    let again = job(&image);
    // After the spool was asked, and gone from it before the answer.
    let meanwhile = async |_: &[Digest]| {
        let answer = accept(&store, &again, Image::Known).await;
        assert!(
            matches!(
                answer,
                Accepted::New {
                    duplicate: true,
                    ..
                }
            ),
            "{answer:?}"
        );
        store.remove(vec![again.id]);
        store.flush().await?;
        Ok::<_, StoreError>(HashSet::new())
    };
    let gone = store.remove_images(vec![first.sha256], meanwhile).await;
    assert_eq!(gone.unwrap(), []);
    assert!(store.image_path(&first.sha256).exists());
    // Later it may go.
    assert_eq!(remove(&store, &[first.sha256]).await, [first.sha256]);
}

/// The removal and the image's return share a commit: the file that came is not the one to go.
#[tokio::test]
async fn an_image_that_comes_again_in_the_commit_that_removes_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let accepted = |seed, len| {
        let (store, image) = (store.clone(), noise(seed, len));
        let job = job(&image);
        let sent = job.clone();
        let accepting = async move { store.accept(sent, Image::Bytes(image.into())).await };
        (job, tokio::spawn(accepting))
    };
    for round in 0..40 {
        let (first, accepting) = accepted(round, 5000);
        accepting.await.unwrap().unwrap();
        store.remove(vec![first.id]);
        store.flush().await.unwrap();
        let mut again = None;
        let meanwhile = async |_: &[Digest]| {
            // The committer is busy with these when the removal and what comes after it are asked.
            for filler in 0..16 {
                drop(accepted(1000 + round * 16 + filler, 60_000));
            }
            tokio::task::yield_now().await;
            again = Some(accepted(round, 5000));
            Ok::<_, StoreError>(HashSet::new())
        };
        let gone = store.remove_images(vec![first.sha256], meanwhile).await;
        assert_eq!(gone.unwrap(), [first.sha256]);
        let (again, accepting) = again.unwrap();
        let answer = accepting.await.unwrap().unwrap();
        assert!(matches!(
            answer,
            Accepted::New {
                duplicate: false,
                ..
            }
        ));
        store.flush().await.unwrap();
        assert!(store.image_path(&again.sha256).exists(), "round {round}");
    }
}

#[tokio::test]
async fn age_counts_from_when_an_image_was_last_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let mut jobs = Vec::new();
    for seed in 0..2 {
        let image = noise(seed, 5000);
        let job = job(&image);
        accept(&store, &job, Image::Bytes(image.into())).await;
        let file = std::fs::File::open(store.image_path(&job.sha256)).unwrap();
        file.set_modified(long_ago).unwrap();
        jobs.push(job);
    }
    let again = Job {
        id: imgsys_types::JobId::generate(),
        ..jobs[1].clone()
    };
    accept(&store, &again, Image::Known).await;
    let cutoff = long_ago + Duration::from_secs(60);
    assert_eq!(store.images_before(cutoff).unwrap(), [jobs[0].sha256]);
    assert_eq!(store.images_before(long_ago).unwrap(), []);
}
