//! A power cut at any write: whatever part of what was not flushed has reached the disk, the store
//! opens, has every job that was accepted, and has no half image.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    disk::{ImageFile, ImageFiles, Interval, Recorder, Written, files},
    tests::{job_of, options},
    *,
};
use crate::{Accepted, Image};
use bytes::Bytes;
use imgsys_types::{Failure, FailureReason, Job, JobId, JobResult, Owner};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Read,
};

/// How many stories are told: `IMGSYS_TORN=20` tells twenty, and cuts writes more finely.
fn stories() -> (u64, bool) {
    let asked = std::env::var("IMGSYS_TORN").map(|stories| stories.parse().unwrap());
    asked.map_or((1, false), |stories| (stories, true))
}

/// After how many of its bytes a write is cut. What the database's header says of its state is in
/// the first bytes of the file, so these are cut at every byte.
fn cuts(written: &Written, finely: bool) -> Vec<usize> {
    let (every_byte, step) = match (written, finely) {
        (Written::Bytes(0, _), true) => (512, 61),
        (_, true) => (0, 61),
        (_, false) => (0, 1021),
    };
    let rest = (every_byte..written.len()).step_by(step);
    (0..every_byte.min(written.len())).chain(rest).collect()
}

/// A moment: see [`Recorder::now`].
type Moment = (usize, usize);

/// What the test knows of a job.
#[derive(Debug)]
struct Known {
    job: Job,
    asked: Moment,
    /// The flushes that had ended when it was known to be accepted.
    accepted: Option<usize>,
    /// When its result was handed in, and after which flush that was known to be kept.
    result: Option<(JobResult, Moment, usize)>,
    /// When the spool was told that it may go.
    removed: Option<Moment>,
}

/// Numbers that depend on nothing but the seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

fn image(number: usize) -> Vec<u8> {
    // The last is too large for memory.
    let len: usize = [5, 700, 4096, 9000, 20_000, 70_000][number];
    let number = u8::try_from(number).unwrap();
    (0..=250_u8)
        .cycle()
        .take(len)
        .map(|byte| byte ^ number)
        .collect()
}

fn owner(number: usize) -> Owner {
    ["a", "b"][number].parse().unwrap()
}

fn result() -> JobResult {
    JobResult::failed(0, Failure::new(FailureReason::Corrupt, "no image"))
}

/// Lives with a store on this disk for a while.
async fn live(store: &Store, disk: &Recorder, chance: &mut Chance) -> Vec<Known> {
    let mut jobs: Vec<Known> = Vec::new();
    for _ in 0..14 {
        match chance.below(5) {
            // Several at once, which share a commit.
            0 | 1 => {
                let several = 1 + chance.below(4);
                let mut waiting = Vec::new();
                for _ in 0..several {
                    let bytes = image(chance.below(6));
                    let mut job = job_of(&bytes);
                    job.owner = owner(chance.below(2));
                    let (store, asked, sent) = (store.clone(), disk.now(), job.clone());
                    let accepting = tokio::spawn(async move {
                        let bytes = Image::Bytes(Bytes::from(bytes));
                        store.accept(sent, bytes).await.unwrap()
                    });
                    waiting.push((job, asked, accepting));
                }
                for (job, asked, accepting) in waiting {
                    let accepted = accepting.await.unwrap();
                    assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
                    jobs.push(Known {
                        job,
                        asked,
                        accepted: Some(disk.now().0),
                        result: None,
                        removed: None,
                    });
                }
            }
            2 => {
                let open = jobs
                    .iter_mut()
                    .find(|known| known.result.is_none() && known.removed.is_none());
                if let Some(known) = open {
                    let (asked, result) = (disk.now(), result());
                    let stands = store.set_result(known.job.id, result.clone()).await;
                    assert_eq!(stands.unwrap().as_ref(), Some(&result));
                    known.result = Some((result, asked, disk.now().0));
                }
            }
            3 => {
                let there = jobs.iter_mut().filter(|known| known.removed.is_none());
                let going: Vec<_> = there.take(2).collect();
                let now = disk.now();
                let ids = going.iter().map(|known| known.job.id).collect();
                for known in going {
                    known.removed = Some(now);
                }
                store.remove(ids);
                store.flush().await.unwrap();
            }
            _ => {
                let all = (0..6).map(|number| digest(&image(number))).collect();
                let nobody = async |_: &[Digest]| Ok::<_, StoreError>(HashSet::new());
                store.remove_images(all, nobody).await.unwrap();
            }
        }
    }
    jobs
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// The image files after a cut within this interval, each of those in doubt by chance.
fn images_after(interval: &Interval, chance: &mut Chance) -> ImageFiles {
    let (before, then) = (&interval.images, &interval.images_then);
    let mut left = BTreeMap::new();
    let names: HashSet<_> = before.keys().chain(then.keys()).collect();
    // In the order of their names, so that a seed tells the same story each time.
    let names: std::collections::BTreeSet<_> = names.into_iter().collect();
    for name in names {
        let (old, new) = (before.get(name), then.get(name));
        let survivor = if old == new {
            old.cloned()
        } else {
            match chance.below(5) {
                0 => old.cloned(),
                1 => None,
                2 => new.cloned(),
                torn => new.map(|new| torn_of(new, torn == 3, chance)),
            }
        };
        left.extend(survivor.map(|image| (name.clone(), image)));
    }
    left
}

/// Only a part has reached the disk; the rest is missing, or zeros where the length has.
fn torn_of(image: &ImageFile, zeros: bool, chance: &mut Chance) -> ImageFile {
    let mut torn = image.clone();
    let kept = chance.below(image.bytes.len());
    if zeros {
        torn.bytes[kept..].fill(0);
    } else {
        torn.bytes.truncate(kept);
    }
    torn
}

/// Opens a store after a cut, and holds it against what is known.
async fn check(dir: &Path, spool: Vec<u8>, images: &ImageFiles, moment: Moment, jobs: &[Known]) {
    let images_dir = dir.join("images");
    for old in files(&images_dir).keys() {
        fs::remove_file(images_dir.join(&old[..2]).join(old)).unwrap();
    }
    for (name, image) in images {
        fs::create_dir_all(images_dir.join(&name[..2])).unwrap();
        fs::write(images_dir.join(&name[..2]).join(name), &image.bytes).unwrap();
    }
    fs::create_dir_all(images_dir.join("incoming")).unwrap();
    fs::write(images_dir.join("incoming/7"), b"half an upl").unwrap();
    let options = StoreOptions {
        // Nothing is cut any more.
        durability: Durability::None,
        ..options(dir)
    };
    let store = Store::open_on(options, |_| Ok(Recorder::new(&images_dir, spool))).unwrap();
    let whole = |job: &Job| fs::read(store.image_path(&job.sha256)).map(|it| digest(&it));

    for known in jobs {
        let (flushes, _) = moment;
        let job = &known.job;
        let found = store.get(job.id).unwrap();
        let due = known.accepted.is_some_and(|at| at <= flushes)
            && known.removed.is_none_or(|at| at > moment);
        assert!(found.is_some() || !due, "lost: {known:?}");
        let Some(found) = found else { continue };
        assert_eq!(found.run.job, *job);
        assert!(known.asked <= moment, "nobody asked for it yet: {known:?}");
        assert_eq!(whole(job).unwrap(), job.sha256, "{known:?}");
        assert!(store.knows(&job.owner, &job.sha256).unwrap(), "{known:?}");
        match (&known.result, found.result) {
            (Some((result, asked, _)), Some(stands)) => {
                assert!(*asked <= moment, "it had no result yet: {known:?}");
                assert_eq!(stands, *result);
            }
            (Some((_, _, kept)), None) => assert!(*kept > flushes, "no result: {known:?}"),
            (None, stands) => assert_eq!(stands, None),
        }
    }
    let ids: HashSet<JobId> = jobs.iter().map(|known| known.job.id).collect();
    let unreadable = store.records(|record| assert!(ids.contains(&record.run.job.id)));
    assert_eq!(unreadable.unwrap(), 0);
    for (owner, number) in (0..2).flat_map(|who| (0..6).map(move |number| (owner(who), number))) {
        let mut job = job_of(&image(number));
        job.owner = owner;
        if store.knows(&job.owner, &job.sha256).unwrap() {
            assert_eq!(whole(&job).unwrap(), job.sha256, "half an image is known");
        }
    }
    assert_eq!(
        fs::read_dir(images_dir.join("incoming")).unwrap().count(),
        0
    );

    // And goes on from there.
    let bytes = image(3);
    let job = job_of(&bytes);
    let accepted = store.accept(job.clone(), Image::Bytes(bytes.into())).await;
    assert!(matches!(accepted.unwrap(), Accepted::New { .. }));
    assert_eq!(whole(&job).unwrap(), job.sha256);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_every_accepted_job_is_found_and_no_half_image() {
    let (stories, finely) = stories();
    let mut checked = 0_u64;
    for seed in 0..stories {
        let mut chance = Chance(seed);
        let (dir, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut recorder = None;
        let store = Store::open_on(options(dir.path()), |mut file| {
            let mut spool = Vec::new();
            file.read_to_end(&mut spool).unwrap();
            let disk = Recorder::new(&dir.path().join("images"), spool);
            Ok(recorder.insert(disk).clone())
        });
        let (store, disk) = (store.unwrap(), recorder.unwrap());
        let jobs = live(&store, &disk, &mut chance).await;
        store.close().await;

        for (flushes, interval) in disk.past().iter().enumerate() {
            let mut spool = interval.spool.clone();
            for (count, written) in interval.written.iter().enumerate() {
                // Cut in the midst of this write, with all before it on the disk.
                for bytes in cuts(written, finely) {
                    let mut torn = spool.clone();
                    written.apply(&mut torn, bytes);
                    let images = images_after(interval, &mut chance);
                    check(after.path(), torn, &images, (flushes, count + 1), &jobs).await;
                    checked += 1;
                }
                written.apply(&mut spool, written.len());
            }
            // Cut at the end, with any of them on the disk and others not.
            for _ in 0..6 {
                let mut some = interval.spool.clone();
                for written in &interval.written {
                    if chance.below(2) == 0 {
                        let bytes = match chance.below(3) {
                            0 => chance.below(written.len()),
                            _ => written.len(),
                        };
                        written.apply(&mut some, bytes);
                    }
                }
                let images = images_after(interval, &mut chance);
                let end = (flushes, interval.written.len());
                check(after.path(), some, &images, end, &jobs).await;
                checked += 1;
            }
        }
    }
    println!("{checked} cuts");
}
