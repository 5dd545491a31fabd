//! Any sequence of operations leaves what a simple model of the store says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{digest, noise, open, owner, result};
use imgsys_store::{Accepted, Image, SMALL_IMAGE, Spooled, Store};
use imgsys_types::{
    Checksum, Cursor, HistoryFilter, Job, JobId, JobRecord, JobState, Owner, Priority, Run,
    ServerId, Timestamp, Whose,
};
use proptest::{collection::vec, option, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

const OWNERS: [&str; 3] = ["a", "ab", "b"];

#[derive(Debug, Clone)]
enum Step {
    Accept {
        id: u8,
        owner: usize,
        image: usize,
        time: i64,
        how: How,
    },
    SetResult(u8, u8),
    /// A job that is gone from the spool comes back, to be analysed again.
    Rerun(u8, u32),
    Remove(Vec<u8>),
    Reopen,
}

#[derive(Debug, Clone)]
enum How {
    Known,
    Bytes,
    Upload(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        Just(How::Known),
        Just(How::Bytes),
        (1000..200_000usize).prop_map(How::Upload),
    ];
    let id = 0..8u8;
    prop_oneof![
        8 => (id.clone(), 0..3usize, 0..4usize, -2..3i64, how).prop_map(
            |(id, owner, image, time, how)| Step::Accept { id, owner, image, time, how }
        ),
        4 => (id.clone(), any::<u8>()).prop_map(|(id, result)| Step::SetResult(id, result)),
        2 => (id.clone(), 1..3u32).prop_map(|(id, number)| Step::Rerun(id, number)),
        2 => vec(id, 0..4).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

fn job_id(id: u8) -> JobId {
    JobId::from_bytes([id; 16])
}

#[derive(Debug, Default)]
struct Model {
    spool: BTreeMap<JobId, Spooled>,
    known: BTreeSet<(Owner, usize)>,
}

impl Model {
    /// What accepting comes to: `new`, `duplicate`, `same`, `conflict` or `not known`.
    fn accept(&mut self, job: &Job, image: usize, brought: Option<&[u8]>) -> &'static str {
        if let Some(found) = self.spool.get(&job.id) {
            let found = &found.run.job;
            let same = (&found.owner, found.sha256) == (&job.owner, job.sha256);
            return if same { "same" } else { "conflict" };
        }
        let known = self.known.contains(&(job.owner.clone(), image));
        if !known && brought.is_none() {
            return "not known";
        }
        self.known.insert((job.owner.clone(), image));
        let run = Run {
            checksum: brought.map(Checksum::of),
            ..Run::submission(job.clone())
        };
        self.spool.insert(job.id, Spooled { run, result: None });
        if known { "duplicate" } else { "new" }
    }

    fn page(&self, whose: &Whose, filter: &HistoryFilter, after: Option<Cursor>) -> Vec<JobRecord> {
        let mut page: Vec<_> = self
            .spool
            .values()
            .map(|spooled| spooled.clone().into_record())
            .filter(|record| whose.includes(&record.job.owner) && filter.matches(record))
            .filter(|record| after.is_none_or(|after| Cursor::of(record) < after))
            .collect();
        page.sort_by_key(|record| std::cmp::Reverse(Cursor::of(record)));
        page
    }
}

async fn take(store: Store, model: &mut Model, step: Step, images: &[Vec<u8>]) -> Store {
    match step {
        Step::Accept {
            id,
            owner: number,
            image,
            time,
            how,
        } => {
            let bytes = &images[image];
            let job = Job {
                id: job_id(id),
                owner: owner(OWNERS[number]),
                sha256: digest(bytes),
                name: format!("{image}.jpg"),
                size: bytes.len() as u64,
                priority: Priority::default(),
                submitted_at: Timestamp::from_micros(time),
                server: ServerId::from_bytes([1; 16]),
            };
            let brought = (!matches!(how, How::Known)).then_some(&bytes[..]);
            let as_image = match how {
                How::Known => Image::Known,
                How::Bytes => Image::Bytes(bytes.clone().into()),
                How::Upload(piece) => {
                    let mut upload = store.upload().unwrap();
                    for piece in bytes.chunks(piece) {
                        upload.write(piece).await.unwrap();
                    }
                    Image::Upload(upload)
                }
            };
            let accepted = match store.accept(job.clone(), as_image).await.unwrap() {
                Accepted::New {
                    duplicate: false, ..
                } => "new",
                Accepted::New {
                    duplicate: true, ..
                } => "duplicate",
                Accepted::Same(record) => {
                    assert_eq!(Some(&*record), model.spool.get(&job.id));
                    "same"
                }
                Accepted::Conflict => "conflict",
                Accepted::NotKnown => "not known",
            };
            assert_eq!(accepted, model.accept(&job, image, brought));
        }
        Step::SetResult(id, detail) => {
            let mut given = result(&detail.to_string());
            given.finished_at = Timestamp::from_micros(0);
            let stands = store.set_result(job_id(id), given.clone()).await.unwrap();
            let expected = model.spool.get_mut(&job_id(id)).and_then(|spooled| {
                if spooled.run.number == 0 {
                    Some(spooled.result.get_or_insert(given).clone())
                } else {
                    None
                }
            });
            assert_eq!(stands, expected);
        }
        Step::Rerun(id, number) => {
            let Some(ended) = model.spool.get(&job_id(id)).cloned() else {
                return store;
            };
            let last = ended.result.unwrap_or_else(|| result("ended"));
            let run = Run {
                number,
                accepted_at: Timestamp::from_micros(9),
                ..ended.run
            };
            let there = store.rerun(run.clone(), last.clone()).await.unwrap();
            assert!(matches!(there, Accepted::Same(_)), "{there:?}");
            store.remove(vec![run.job.id]);
            let taken = store.rerun(run.clone(), last.clone()).await.unwrap();
            assert!(matches!(taken, Accepted::New { .. }), "{taken:?}");
            let spooled = Spooled {
                run,
                result: Some(last),
            };
            model.spool.insert(job_id(id), spooled);
        }
        Step::Remove(ids) => {
            let ids: Vec<_> = ids.into_iter().map(job_id).collect();
            model.spool.retain(|id, _| !ids.contains(id));
            store.remove(ids);
            store.flush().await.unwrap();
        }
        Step::Reopen => {
            let dir = store.images_dir().parent().unwrap().to_owned();
            store.close().await;
            return open(&dir);
        }
    }
    store
}

fn compare(store: &Store, model: &Model, images: &[Vec<u8>]) {
    assert_eq!(store.len(), model.spool.len());
    for id in (0..8).map(job_id) {
        assert_eq!(store.get(id).unwrap().as_ref(), model.spool.get(&id));
    }
    let mut records = Vec::new();
    assert_eq!(store.records(|record| records.push(record)).unwrap(), 0);
    records.sort_by_key(|spooled: &Spooled| spooled.run.job.id);
    assert_eq!(records, model.spool.values().cloned().collect::<Vec<_>>());
    for owner in OWNERS.map(owner) {
        for (number, image) in images.iter().enumerate() {
            let known = model.known.contains(&(owner.clone(), number));
            assert_eq!(store.knows(&owner, &digest(image)).unwrap(), known);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_store_does_as_the_model_says(
        steps in vec(step(), 1..30),
        (since, until) in (option::of(-2..3i64), option::of(-2..3i64)),
        state in option::of(prop_oneof![Just(JobState::Queued), Just(JobState::Failed)]),
        name in option::of("[0-3]"),
        after in option::of((-2..3i64, 0..8u8)),
        limit in 0..4usize,
    ) {
        let images: Vec<_> = [0, 10_000, SMALL_IMAGE, 200_000]
            .map(|len| noise(len as u64, len))
            .into();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::default();
        for step in steps {
            store = runtime.block_on(take(store, &mut model, step, &images));
            compare(&store, &model, &images);
        }
        let filter = HistoryFilter {
            since: since.map(Timestamp::from_micros),
            until: until.map(Timestamp::from_micros),
            state,
            name,
            ..HistoryFilter::default()
        };
        let after = after.map(|(time, id)| Cursor {
            submitted_at: Timestamp::from_micros(time),
            job: job_id(id),
        });
        let each = OWNERS.map(|name| Whose::One(owner(name)));
        for whose in each.into_iter().chain([Whose::All]) {
            let mut expected = model.page(&whose, &filter, after);
            let all = store.page(&whose, &filter, after, usize::MAX).unwrap();
            prop_assert_eq!(&all, &expected);
            expected.truncate(limit);
            prop_assert_eq!(store.page(&whose, &filter, after, limit).unwrap(), expected);
        }
        for (number, image) in images.iter().enumerate() {
            if model.known.iter().any(|(_, known)| *known == number) {
                let path = store.image_path(&digest(image));
                prop_assert!(std::fs::read(path).unwrap() == *image);
            }
        }
    }
}
