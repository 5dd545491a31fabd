//! A log that is damaged is told as such or, where a power cut could have left it so, is read up to
//! the last whole batch. Whatever its bytes are, reading it does no harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    disk::{Files, Name, Recorder},
    replay::{LogState, Replay},
    tests::job_of,
    *,
};
use crate::log::{
    End, Unflushed,
    record::Flags,
    segment::{BatchHead, SegmentHead},
};
use imgsys_types::{Failure, FailureReason, JobId, JobResult, Run};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::collections::{BTreeMap, BTreeSet};

const STATE: LogState = LogState {
    salt: Salt(0x1234_5678),
    first: 3,
    sequence: 0,
};

/// The jobs that a log has, and whether they have ended.
type Jobs = BTreeMap<JobId, bool>;

fn jobs_of(replay: &Replay) -> Jobs {
    let all = replay.spool.jobs.walk(None, usize::MAX);
    all.into_iter()
        .map(|(id, entry)| (id, entry.end.is_some()))
        .collect()
}

fn read(files: Files) -> Result<Replay, StoreError> {
    let disk = Recorder::new(Path::new("none"), files);
    Replay::read(&disk, STATE, Spent::default(), Durability::None)
}

/// A log of some segments, what it says after each of its batches, and where each begins.
fn log() -> (Files, Vec<Jobs>, Vec<(u32, usize)>) {
    let disk = Recorder::new(Path::new("none"), Files::new());
    let mut log = Writer::new(
        Arc::new(disk.clone()),
        STATE.salt,
        Durability::None,
        Unflushed::default(),
        500,
        End::before(STATE.first),
    );
    let (mut after, mut begins, mut jobs) = (vec![Jobs::new()], Vec::new(), Jobs::new());
    for number in 0..12_u8 {
        log.begin();
        let job = job_of(&[number]);
        let id = job.id;
        log.accepted(Flags::default(), &Run::submission(job), None);
        jobs.insert(id, false);
        let ids: Vec<JobId> = jobs.keys().copied().collect();
        if number % 3 == 1 {
            let failure = Failure::new(FailureReason::Corrupt, "none");
            log.result(ids[0], &JobResult::failed(0, failure));
            jobs.insert(ids[0], true);
        }
        if number % 4 == 3 {
            log.gone(&ids[..1]);
            jobs.remove(&ids[0]);
        }
        let written = log.write().unwrap();
        let end = written.file.len().unwrap();
        begins.push((written.segment, usize::try_from(end).unwrap() - log.size()));
        after.push(jobs.clone());
    }
    let mut files = Files::new();
    for segment in disk.segments().unwrap() {
        let file = disk.open(segment).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        files.insert(Name::Segment(segment), bytes);
    }
    assert!(files.len() > 2);
    (files, after, begins)
}

/// Where the power went before the room was given back that a segment had taken, even less than a head.
#[test]
fn zeros_at_the_end_of_any_segment_do_no_harm() {
    let (files, after, _) = log();
    for zeros in 1..100 {
        let mut files = files.clone();
        for file in files.values_mut() {
            file.extend(vec![0; zeros]);
        }
        let read = read(files).unwrap_or_else(|error| panic!("{zeros} zeros: {error}"));
        assert_eq!(jobs_of(&read), after[after.len() - 1], "{zeros} zeros");
    }
}

#[test]
fn a_log_cut_anywhere_ends_with_its_last_whole_batch() {
    let (files, after, begins) = log();
    for cut in 0..begins.len() {
        let (segment, begin) = begins[cut];
        let next = begins.get(cut + 1).filter(|(next, _)| *next == segment);
        let end = next.map_or(files[&Name::Segment(segment)].len(), |(_, at)| *at);
        for at in begin..=end {
            let mut files = files.clone();
            files.retain(|name, _| *name <= Name::Segment(segment));
            let file = files.get_mut(&Name::Segment(segment)).unwrap();
            let batch = file[..end].to_vec();
            file.truncate(at);
            // Sometimes there is room behind it, and what is cut off may be zeros too.
            file.extend(vec![0; at % 3 * 100]);
            let whole = cut + usize::from(file.starts_with(&batch));
            assert_eq!(
                jobs_of(&read(files).unwrap()),
                after[whole],
                "batch {cut} at {at}"
            );
        }
    }
}

#[test]
fn every_bit_that_differs_is_told_or_takes_the_last_batch_alone() {
    let (files, after, begins) = log();
    let (last, begin) = *begins.last().unwrap();
    for (name, bytes) in &files {
        for bit in (0..bytes.len() * 8).step_by(3) {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let is_last = *name == Name::Segment(last) && bit / 8 >= begin;
            match read(files) {
                Ok(replay) => {
                    assert!(is_last, "{name:?} bit {bit} was not seen");
                    assert_eq!(jobs_of(&replay), after[after.len() - 2]);
                }
                Err(error) => assert!(matches!(error, StoreError::CorruptLog { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn a_segment_that_is_missing_is_told() {
    let (files, ..) = log();
    let names: BTreeSet<Name> = files.keys().copied().collect();
    for name in names.iter().take(names.len() - 1) {
        let mut files = files.clone();
        files.remove(name);
        assert!(
            matches!(read(files), Err(StoreError::CorruptLog { .. })),
            "{name:?}"
        );
    }
    // The last one too, once the database is up to what it says.
    let mut short = files.clone();
    short.remove(names.last().unwrap());
    let disk = Recorder::new(Path::new("none"), short);
    let state = LogState {
        sequence: 12,
        ..STATE
    };
    let read = Replay::read(&disk, state, Spent::default(), Durability::None);
    assert!(matches!(read, Err(StoreError::CorruptLog { .. })));
}

proptest! {
    #[test]
    fn any_bytes_in_the_place_of_some_are_read_or_refused(
        changes in vec((any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..80)), 1..4),
        cut: Option<Index>,
    ) {
        let (mut files, ..) = log();
        let names: Vec<Name> = files.keys().copied().collect();
        for (name, at, bytes) in changes {
            let file = files.get_mut(&names[name.index(names.len())]).unwrap();
            let at = at.index(file.len() + 1);
            let end = (at + bytes.len()).min(file.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len() + 1));
            }
        }
        let _ = read(files);
    }

    /// As if whoever wrote it knew the salt.
    #[test]
    fn any_records_in_a_whole_batch_are_read_or_refused(
        mut body in vec(any::<u8>(), 0..300),
        kinds in vec((0..6_u8, 0..60_u8), 0..5),
        len in prop_oneof![Just(None), any::<u32>().prop_map(Some)],
        records: u32,
        (counted, sequence) in (any::<bool>(), 0..3_u64),
    ) {
        let mut at = 0;
        for (kind, len) in &kinds {
            if let Some(head) = body.get_mut(at..at + 8) {
                head.copy_from_slice(&[*kind, 7, 0, 0, *len, 0, 0, 0]);
            }
            at += 12 + usize::from(*len);
        }
        let head = BatchHead {
            len: len.unwrap_or(u32::try_from(body.len()).unwrap()),
            checksum: STATE.salt.checksum(&[&body]),
            sequence,
            records: if counted { u32::try_from(kinds.len()).unwrap() } else { records },
        };
        let segment = SegmentHead { number: STATE.first, first: 1 };
        let mut file = segment.encode(STATE.salt).to_vec();
        file.extend(head.encode(STATE.salt));
        file.extend(body);
        let _ = read(Files::from([(Name::Segment(STATE.first), file)]));
    }
}
