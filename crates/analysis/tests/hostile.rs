//! No bytes make `inspect` panic, nor take memory that the limits forbid.

#![allow(clippy::unwrap_used)]

use imgsys_analysis::{Depth, Limits, Options, inspect};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::{fs, path::Path, sync::LazyLock};

/// Small, so that no case takes long.
const SMALL: Limits = Limits {
    max_pixels: 100_000,
    max_side: 2000,
    max_decode_memory: 4 << 20,
};

/// No limit at all: the structure's readers must bear any number.
const NONE: Limits = Limits {
    max_pixels: u64::MAX,
    max_side: u32::MAX,
    max_decode_memory: u64::MAX,
};

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let files = fs::read_dir(folder).unwrap();
    let mut seeds: Vec<Vec<u8>> = files
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .filter(|bytes| bytes.len() < 30_000)
        .collect();
    seeds.sort();
    seeds
});

fn look(bytes: &[u8]) {
    for (limits, depth) in [(NONE, Depth::Header), (SMALL, Depth::Full)] {
        let options = Options {
            limits,
            depth,
            keep_gps: true,
        };
        let _ = inspect(bytes, &options);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_change_of_a_header(
        seed in any::<Index>(),
        changes in vec((0_usize..160, any::<u8>()), 1..6),
        end in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = seed.get(&SEEDS).clone();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        look(&bytes);
    }

    #[test]
    fn any_change_anywhere(
        seed in any::<Index>(),
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = seed.get(&SEEDS).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        look(&bytes);
    }

    #[test]
    fn any_bytes_after_a_magic(
        magic in prop::sample::select(vec![
            &b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8X",
            b"BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"",
        ]),
        bytes in vec(any::<u8>(), 0..300),
    ) {
        look(&[magic, &bytes].concat());
    }
}
