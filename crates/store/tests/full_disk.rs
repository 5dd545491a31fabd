//! A full disk refuses images, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Disk, job, noise, open, result};
use imgsys_store::{Accepted, Image, StoreError};
use std::fs;

#[tokio::test]
async fn a_full_disk_refuses_images_and_nothing_else() {
    let Some(disk) = Disk::mount("tmpfs", "size=48m") else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let store = open(disk.path());
    let accept = async |seed: u64, len: usize| {
        let image = noise(seed, len);
        let accepted = store.accept(job(&image), Image::Bytes(image.clone().into()));
        (job(&image), accepted.await)
    };
    for len in [60_000, 2_000_000] {
        let mut kept = Vec::new();
        let refused = loop {
            let (job, accepted) = accept(kept.len() as u64, len).await;
            match accepted {
                Ok(_) => kept.push(job),
                Err(refused) => break refused,
            }
            assert!(kept.len() < 1000, "the disk is never full");
        };
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        assert!(!kept.is_empty());
        // What was accepted is there, and can be finished and removed.
        let mut ids = Vec::new();
        store.records(|record| ids.push(record.run.job.id)).unwrap();
        assert_eq!(ids.len(), kept.len());
        for &id in &ids {
            let stands = store.set_result(id, result("too full")).await.unwrap();
            assert!(stands.is_some());
        }
        // An image that is known takes no room, but its record does.
        let known = job(&noise(0, len));
        let known = store.accept(known, Image::Known).await;
        assert!(
            matches!(
                known,
                Ok(Accepted::New {
                    duplicate: true,
                    ..
                })
            ),
            "{known:?}"
        );
        store.remove(ids);
        store.flush().await.unwrap();
        assert!(
            fs::read_dir(store.images_dir().join("incoming"))
                .unwrap()
                .next()
                .is_none()
        );
        // Room is made, and all goes on.
        for job in kept {
            fs::remove_file(store.image_path(&job.sha256)).unwrap();
        }
        let (job, accepted) = accept(999, len).await;
        assert!(matches!(accepted, Ok(Accepted::New { .. })), "{accepted:?}");
        fs::remove_file(store.image_path(&job.sha256)).unwrap();
        let mut left = Vec::new();
        store
            .records(|record| left.push(record.run.job.id))
            .unwrap();
        store.remove(left);
        store.flush().await.unwrap();
    }
    store.close().await;
}
