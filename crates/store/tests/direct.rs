//! Large images, past the kernel's cache and through it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{Disk, job, noise, options};
use imgsys_store::{Accepted, Durability, Image, SMALL_IMAGE, Store, StoreOptions};
use imgsys_types::Checksum;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};
use std::fs::{self, File};
use tempfile::tempdir;

/// Lengths about which one of the two ways might stumble: whole pages, a byte more, several pieces.
const LENGTHS: [usize; 6] = [
    SMALL_IMAGE + 1,
    SMALL_IMAGE + 4096,
    512 << 10,
    (512 << 10) + 1,
    (1 << 20) + 4095,
    3 << 20,
];

/// Sends images of all lengths to a store that was opened so, and looks at what is kept.
async fn large_images_are_whole(options: StoreOptions) {
    let direct_io = options.direct_io;
    let store = Store::open(options).unwrap();
    for len in LENGTHS {
        let image = noise(len as u64, len);
        let sent = job(&image);
        let bytes = Image::Bytes(Bytes::from(image.clone()));
        let accepted = store.accept(sent.clone(), bytes).await.unwrap();
        let Accepted::New {
            duplicate,
            checksum,
        } = accepted
        else {
            panic!("{accepted:?}");
        };
        assert!(!duplicate);
        assert_eq!(checksum, Some(Checksum::of(&image)), "{len}");
        let spooled = store.get(sent.id).unwrap().unwrap();
        assert_eq!(spooled.run.checksum, checksum, "it is in the spool, too");
        let file = fs::read(store.image_path(&sent.sha256)).unwrap();
        assert_eq!(file.len(), len);
        assert!(file == image, "{len} bytes, direct I/O {direct_io}");
    }
    store.close().await;
}

#[tokio::test]
async fn large_images_are_whole_either_way() {
    for durability in [Durability::Fsync, Durability::None] {
        for direct_io in [true, false] {
            let dir = tempdir().unwrap();
            large_images_are_whole(StoreOptions {
                direct_io,
                ..options(dir.path(), durability)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn file_system_without_direct_io_keeps_them_as_well() {
    let Some(disk) = Disk::mount("ramfs", "mode=755") else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let probe = File::create(disk.path().join("probe")).unwrap();
    if fcntl_setfl(&probe, OFlags::DIRECT) != Err(Errno::INVAL) {
        eprintln!("skipped: this kernel's ramfs has direct I/O");
        return;
    }
    drop(probe);
    large_images_are_whole(options(disk.path(), Durability::Fsync)).await;
}
