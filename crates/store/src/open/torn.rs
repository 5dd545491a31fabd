//! A power cut at any write: whatever part of what was not flushed has reached the disk, the store
//! opens, has every job that was accepted, and has no half image. And so it is when the power is cut
//! again while it recovers.
//!
//! Segments are tiny and little gathers in memory, so that in a short life segments are begun, jobs
//! carried over, images brought into their table and segments deleted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cut;

use super::{
    disk::{Files, ImageFiles, Name, Reached, Recorder, Step, Written},
    tests::{job_of, options},
    *,
};
use crate::{Accepted, Image};
use bytes::Bytes;
use cut::{Chance, Cut, Known, digest, image, images_after, left_by_chance, owner};
use imgsys_types::{Checksum, Failure, FailureReason, JobResult, Run};
use std::{collections::HashSet, io::Read};

const TINY: Tuning = Tuning {
    segment: 300,
    gather: 3,
};

/// How many stories are told: `IMGSYS_TORN=20` tells twenty, and cuts writes more finely.
fn stories() -> (u64, bool) {
    let asked = std::env::var("IMGSYS_TORN").map(|stories| stories.parse().unwrap());
    asked.map_or((2, false), |stories| (stories, true))
}

/// After how many of its bytes a write is cut. What the database's header says of its state is in
/// the first bytes of the file, so these are cut at every byte.
fn cuts(name: Name, written: &Written, finely: bool) -> Vec<usize> {
    let (every_byte, step) = match (name, written, finely) {
        (Name::Tables, Written::Bytes(0, _), true) => (512, 61),
        (Name::Tables, _, true) => (0, 61),
        (Name::Tables, _, false) => (0, 1021),
        (Name::Segment(_), _, true) => (80, 7),
        (Name::Segment(_), _, false) => (0, 29),
    };
    let rest = (every_byte..written.len()).step_by(step);
    (0..every_byte.min(written.len())).chain(rest).collect()
}

fn result(run: u32) -> JobResult {
    JobResult::failed(run, Failure::new(FailureReason::Corrupt, "no image"))
}

/// Lives with a store on this disk for a while.
async fn live(store: &Store, disk: &Recorder, chance: &mut Chance) -> Vec<Known> {
    let mut jobs: Vec<Known> = Vec::new();
    for _ in 0..28 {
        match chance.below(6) {
            // Several at once, which share a commit.
            0 | 1 => {
                let several = 1 + chance.below(4);
                let mut waiting = Vec::new();
                for _ in 0..several {
                    let bytes = image(chance.below(6));
                    let mut job = job_of(&bytes);
                    job.owner = owner(chance.below(2));
                    let checksum = Some(Checksum::of(&bytes));
                    let (store, asked, sent) = (store.clone(), disk.now(), job.clone());
                    let accepting = tokio::spawn(async move {
                        let bytes = Image::Bytes(Bytes::from(bytes));
                        store.accept(sent, bytes).await.unwrap()
                    });
                    waiting.push((job, checksum, asked, accepting));
                }
                for (job, checksum, asked, accepting) in waiting {
                    let accepted = accepting.await.unwrap();
                    assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
                    jobs.push(Known {
                        run: Run {
                            checksum,
                            ..Run::submission(job)
                        },
                        last: None,
                        asked,
                        accepted: disk.now(),
                        result: None,
                        removed: None,
                    });
                }
            }
            2 => {
                // Not always the first: some stay for long.
                let skipped = chance.below(3);
                let open = jobs
                    .iter_mut()
                    .filter(|known| known.result.is_none() && known.removed.is_none())
                    .nth(skipped);
                if let Some(known) = open {
                    let (asked, result) = (disk.now(), result(known.run.number));
                    let stands = store.set_result(known.run.job.id, result.clone()).await;
                    assert_eq!(stands.unwrap().as_ref(), Some(&result));
                    known.result = Some((result, asked, disk.now()));
                }
            }
            3 => {
                let skipped = chance.below(3);
                let there = jobs.iter_mut().filter(|known| known.removed.is_none());
                let going: Vec<_> = there.skip(skipped).take(3).collect();
                let now = disk.now();
                let ids = going.iter().map(|known| known.run.job.id).collect();
                for known in going {
                    known.removed = Some(now);
                }
                store.remove(ids);
                store.flush().await.unwrap();
            }
            4 => {
                let gone = jobs.iter().rfind(|known| known.removed.is_some());
                let gone = gone.map(|known| known.run.clone());
                let again = gone.filter(|run| {
                    let mut same = jobs.iter().filter(|known| known.run.job.id == run.job.id);
                    same.all(|known| known.removed.is_some())
                });
                if let Some(mut run) = again {
                    let last = result(run.number);
                    run.number += 1;
                    let asked = disk.now();
                    let taken = store.rerun(run.clone(), last.clone()).await.unwrap();
                    if matches!(taken, Accepted::New { .. }) {
                        jobs.push(Known {
                            run,
                            last: Some(last),
                            asked,
                            accepted: disk.now(),
                            result: None,
                            removed: None,
                        });
                    }
                }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_every_accepted_job_is_found_and_no_half_image() {
    let (stories, finely) = stories();
    let (mut checked, mut removed, mut segments) = (0_u64, 0, 0);
    for seed in 0..stories {
        let mut chance = Chance(seed);
        let (dir, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let images_dir = dir.path().join("images");
        // An empty database, as any new store has.
        Store::open(options(dir.path())).unwrap().close().await;
        let mut tables = Vec::new();
        let mut file = File::open(dir.path().join("spool.redb")).unwrap();
        file.read_to_end(&mut tables).unwrap();
        let files = Files::from([(Name::Tables, tables)]);
        let disk = Recorder::new(&images_dir, files.clone());
        let (tables, log) = (disk.clone(), disk.clone());
        let options = options(dir.path());
        let store = Store::open_on(options, TINY, |_| Ok(tables), |_| Arc::new(log)).unwrap();
        let jobs = live(&store, &disk, &mut chance).await;
        store.close().await;

        let past = disk.past((files, ImageFiles::new()));
        let mut reached = Reached::new(&past.start.0);
        for (number, step) in past.steps.iter().enumerate() {
            let cut = |files, images| Cut {
                dir: after.path(),
                files,
                images,
                step: number,
                jobs: &jobs,
            };
            if let Step::Written(name, written) = step {
                // Cut in the midst of this write, with all before it on the disk.
                let mut now = reached.clone();
                now.go_on(step);
                let last = now.pending.len() - 1;
                for count in cuts(*name, written, finely) {
                    let bytes = |index, written: &Written| match index {
                        _ if index == last => count,
                        _ => written.len(),
                    };
                    let files = now.left(bytes, || true);
                    let images = images_after(&past, number, &mut chance);
                    let again = chance.below(16) == 0;
                    checked += cut(files, images).try_out(&mut chance, again).await;
                }
            }
            if let Step::Flushed(_) | Step::FlushedEntries | Step::FlushedImages = step {
                // Cut before this has ended, with any of them on the disk and others not.
                for _ in 0..6 {
                    let files = left_by_chance(&reached, &mut chance);
                    let images = images_after(&past, number, &mut chance);
                    let again = chance.below(8) == 0;
                    checked += cut(files, images).try_out(&mut chance, again).await;
                }
            }
            removed += usize::from(matches!(step, Step::Removed(_)));
            segments += usize::from(matches!(step, Step::Made(_)));
            reached.go_on(step);
        }
    }
    println!("{checked} cuts, {segments} segments made, {removed} removed");
    assert!(
        segments > 3 && removed > 0,
        "{segments} segments made, {removed} removed"
    );
}
