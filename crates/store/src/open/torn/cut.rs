//! What a power cut may leave, and holding a store that is opened on it against what is known.

use super::TINY;
use crate::{
    Accepted, Durability, Image, Store, StoreOptions,
    open::{
        disk::{Files, ImageFile, ImageFiles, Past, Reached, Recorder, Step, Written, image_files},
        tests::{job_of, options},
    },
};
use imgsys_types::{Checksum, Digest, Job, JobId, JobResult, Owner, Run};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::Path,
    sync::Arc,
};

/// What the test knows of a run of a job. Moments are steps of the disk: see [`Recorder::now`].
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) run: Run,
    /// What the run before came to.
    pub(super) last: Option<JobResult>,
    pub(super) asked: usize,
    /// When it was known to be accepted.
    pub(super) accepted: usize,
    /// When its result was handed in, and when that was known to be kept.
    pub(super) result: Option<(JobResult, usize, usize)>,
    /// When the spool was told that it may go.
    pub(super) removed: Option<usize>,
}

/// Numbers that depend on nothing but the seed.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

pub(super) fn image(number: usize) -> Vec<u8> {
    // The last is too large for memory.
    let len: usize = [5, 700, 4096, 9000, 20_000, 70_000][number];
    let number = u8::try_from(number).unwrap();
    (0..=250_u8)
        .cycle()
        .take(len)
        .map(|byte| byte ^ number)
        .collect()
}

pub(super) fn owner(number: usize) -> Owner {
    ["a", "b"][number].parse().unwrap()
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// The image files after a cut at this step, each of those in doubt by chance.
pub(super) fn images_after(past: &Past, cut: usize, chance: &mut Chance) -> ImageFiles {
    let flushed = past.images.range(..cut).rev();
    let flushed = flushed.map(|(step, _)| *step);
    let mut flushed = flushed.filter(|step| matches!(past.steps[*step], Step::FlushedImages));
    let from = flushed.next();
    let before = from.map_or(&past.start.1, |step| &past.images[&step]);
    let until = past
        .images
        .range(cut..)
        .next()
        .map(|(step, _)| *step)
        .unwrap();
    let since = past.images.range(from.unwrap_or(0)..=until);
    let since: Vec<&ImageFiles> = since.map(|(_, images)| images).collect();
    let then = since.last().unwrap();
    let mut left = BTreeMap::new();
    // In the order of their names, so that a seed tells the same story each time.
    let names = since.iter().flat_map(|images| images.keys());
    for name in names.chain(before.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (before.get(name), then.get(name));
        let survivor = if since.iter().all(|images| images.get(name) == old) {
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

/// What a cut has left, and what is known of the time before it.
pub(super) struct Cut<'a> {
    pub(super) dir: &'a Path,
    pub(super) files: Files,
    pub(super) images: ImageFiles,
    /// In the midst of this step, or of none of those up to here.
    pub(super) step: usize,
    pub(super) jobs: &'a [Known],
}

impl Cut<'_> {
    /// Puts on the disk what is left, and opens the store. Gives the image files as they were then.
    fn open(&self, durability: Durability) -> (Store, Recorder, ImageFiles) {
        let images_dir = self.dir.join("images");
        for old in image_files(&images_dir).keys() {
            fs::remove_file(images_dir.join(&old[..2]).join(old)).unwrap();
        }
        for (name, image) in &self.images {
            fs::create_dir_all(images_dir.join(&name[..2])).unwrap();
            fs::write(images_dir.join(&name[..2]).join(name), &image.bytes).unwrap();
        }
        fs::create_dir_all(images_dir.join("incoming")).unwrap();
        fs::write(images_dir.join("incoming/7"), b"half an upl").unwrap();
        // In its stead is what the recorder has.
        fs::write(self.dir.join("spool.redb"), b"").unwrap();
        let options = StoreOptions {
            durability,
            ..options(self.dir)
        };
        let images = image_files(&images_dir);
        let disk = Recorder::new(&images_dir, self.files.clone());
        let (tables, log) = (disk.clone(), disk.clone());
        let store = Store::open_on(options, TINY, |_| Ok(tables), |_| Arc::new(log));
        let store = store.unwrap_or_else(|error| panic!("cut at {}: {error}", self.step));
        (store, disk, images)
    }

    /// Holds what the store has against what is known, and says which jobs it has.
    fn check(&self, store: &Store) -> HashSet<JobId> {
        let mut there = HashSet::new();
        let whole = |job: &Job| fs::read(store.image_path(&job.sha256)).map(|it| digest(&it));
        for known in self.jobs {
            let job = &known.run.job;
            let found = store.get(job.id).unwrap();
            let found = found.filter(|found| found.run.number == known.run.number);
            let due = known.accepted <= self.step && known.removed.is_none_or(|at| at > self.step);
            assert!(found.is_some() || !due, "lost at {}: {known:?}", self.step);
            let Some(found) = found else { continue };
            there.insert(job.id);
            assert_eq!(found.run, known.run);
            assert!(
                known.asked <= self.step,
                "nobody asked for it yet: {known:?}"
            );
            assert_eq!(whole(job).unwrap(), job.sha256, "{known:?}");
            assert!(store.knows(&job.owner, &job.sha256).unwrap(), "{known:?}");
            match &known.result {
                Some((result, asked, kept)) => {
                    if found.result.as_ref() == Some(result) {
                        assert!(*asked <= self.step, "it had no result yet: {known:?}");
                    } else {
                        assert_eq!(found.result, known.last);
                        assert!(*kept > self.step, "no result: {known:?}");
                    }
                }
                None => assert_eq!(found.result, known.last),
            }
        }
        let ids: HashSet<JobId> = self.jobs.iter().map(|known| known.run.job.id).collect();
        let mut count = 0;
        let unreadable = store.records(|record| {
            count += 1;
            assert!(ids.contains(&record.run.job.id));
        });
        assert_eq!((unreadable.unwrap(), count), (0, store.len()));
        for (owner, number) in (0..2).flat_map(|who| (0..6).map(move |n| (owner(who), n))) {
            let mut job = job_of(&image(number));
            job.owner = owner;
            if store.knows(&job.owner, &job.sha256).unwrap() {
                assert_eq!(whole(&job).unwrap(), job.sha256, "half an image is known");
            }
        }
        let incoming = self.dir.join("images/incoming");
        assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
        there
    }

    /// Opens the store and holds it against what is known; it goes on from there. With a chance, the
    /// power is cut again meanwhile. Says how many cuts that were.
    pub(super) async fn try_out(self, chance: &mut Chance, again: bool) -> u64 {
        let durability = if again {
            Durability::Fsync
        } else {
            // Nothing is cut any more.
            Durability::None
        };
        let (store, disk, images) = self.open(durability);
        let there = self.check(&store);
        let bytes = image(3);
        let job = job_of(&bytes);
        let asked = disk.now();
        let checksum = Some(Checksum::of(&bytes));
        let accepted = store.accept(job.clone(), Image::Bytes(bytes.into())).await;
        assert!(matches!(accepted.unwrap(), Accepted::New { .. }));
        let accepted = disk.now();
        let image = fs::read(store.image_path(&job.sha256)).unwrap();
        assert_eq!(digest(&image), job.sha256);
        store.close().await;
        if !again {
            return 1;
        }
        let past = disk.past((self.files.clone(), images));
        for _ in 0..4 {
            let cut = chance.below(past.steps.len() + 1);
            let mut reached = Reached::new(&past.start.0);
            past.steps[..cut]
                .iter()
                .for_each(|step| reached.go_on(step));
            let files = left_by_chance(&reached, chance);
            let images = images_after(&past, cut, chance);
            let mut jobs = self.jobs.to_vec();
            jobs.push(Known {
                run: Run {
                    checksum,
                    ..Run::submission(job.clone())
                },
                last: None,
                // As seen from the step of the first cut.
                asked: if asked <= cut { 0 } else { usize::MAX },
                accepted: if accepted <= cut { 0 } else { usize::MAX },
                result: None,
                removed: None,
            });
            let second = Cut {
                files,
                images,
                jobs: &jobs,
                ..self
            };
            let (store, ..) = second.open(Durability::None);
            let still = second.check(&store);
            // Whoever asked in between was told of them.
            assert!(
                there.is_subset(&still),
                "lost by the second cut, at {cut} after {}",
                self.step
            );
            store.close().await;
        }
        5
    }
}

/// Any of what was not flushed is on the disk, whole or in part, and the rest not.
pub(super) fn left_by_chance(reached: &Reached, chance: &mut Chance) -> Files {
    let entries: Vec<bool> = reached
        .pending_entries
        .iter()
        .map(|_| chance.below(2) == 0)
        .collect();
    let mut entries = entries.into_iter();
    let bytes = |_, written: &Written| match chance.below(6) {
        0 | 1 => chance.below(written.len() + 1),
        2 | 3 => 0,
        _ => written.len(),
    };
    reached.left(bytes, || entries.next().unwrap())
}
