//! The index against plain maps.

use super::*;
use proptest::{collection::vec, option, prelude::*};

fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn place(segment: u32, number: u8) -> Place {
    Place {
        segment,
        offset: u32::from(number),
        len: 10 + u32::from(number),
    }
}

fn owner(number: usize) -> Owner {
    ["a", "ab", "b"][number].parse().unwrap()
}

proptest! {
    #[test]
    fn the_index_says_what_plain_maps_would(
        steps in vec((0..40_u8, 0..3_usize, -2..3_i64, 0..4_u32, option::of(0..4_u32), 0..4_u8), 0..200),
        (before, since) in (option::of((-2..3_i64, 0..40_u8)), option::of(-2..3_i64)),
        count in 1..50_usize,
    ) {
        let (mut index, mut model) = (Index::default(), BTreeMap::new());
        for (number, who, time, segment, end, step) in steps {
            match step {
                0 => {
                    index.remove(id(number));
                    model.remove(&id(number));
                }
                1 => {
                    let end = place(segment, number);
                    index.set_end(id(number), end);
                    model.entry(id(number)).and_modify(|entry: &mut Entry| entry.end = Some(end));
                }
                _ => {
                    let entry = Entry {
                        owner: owner(who),
                        submitted_at: Timestamp::from_micros(time),
                        run: 0,
                        accepted: place(segment, number),
                        end: end.map(|segment| place(segment, number)),
                    };
                    index.put(id(number), &entry);
                    model.insert(id(number), entry);
                }
            }
        }
        prop_assert_eq!(index.len(), model.len());
        for number in 0..40 {
            prop_assert_eq!(index.get(id(number)), model.get(&id(number)).cloned());
        }
        // All of them, in parts.
        let mut all: Vec<(JobId, Entry)> = model.clone().into_iter().collect();
        all.sort_by_key(|(id, entry)| (entry.owner.clone(), entry.submitted_at, *id));
        let mut walked: Vec<(JobId, Entry)> = Vec::new();
        let mut after: Option<(Owner, Key)> = None;
        loop {
            let part = index.walk(after.as_ref().map(|(owner, key)| (owner, *key)), count);
            let Some((id, entry)) = part.last() else { break };
            after = Some((entry.owner.clone(), (entry.submitted_at, *id)));
            walked.extend(part);
        }
        prop_assert_eq!(&walked, &all);
        // Pages.
        let before = before.map(|(time, number)| (Timestamp::from_micros(time), id(number)));
        let since = since.map(Timestamp::from_micros);
        for whose in [Some(owner(0)), Some(owner(1)), Some(owner(2)), None] {
            let mut page = all.clone();
            page.retain(|(id, entry)| {
                whose.as_ref().is_none_or(|owner| *owner == entry.owner)
                    && before.is_none_or(|before| (entry.submitted_at, *id) < before)
                    && since.is_none_or(|since| entry.submitted_at >= since)
            });
            page.sort_by_key(|(id, entry)| Reverse((entry.submitted_at, *id)));
            page.truncate(count);
            prop_assert_eq!(index.newest(whose.as_ref(), before, since, count), page);
        }
        // Segments.
        let mut used = 0;
        for segment in 0..4 {
            let here = |place: &Place| place.segment == segment;
            let places = |entry: &Entry| [Some(entry.accepted), entry.result()];
            let mut in_it: Vec<JobId> = Vec::new();
            let mut bytes = 0;
            for (id, entry) in &model {
                let places: Vec<Place> = places(entry).into_iter().flatten().filter(here).collect();
                bytes += places.iter().map(|place| u64::from(place.len)).sum::<u64>();
                in_it.extend((!places.is_empty()).then_some(*id));
            }
            used += bytes;
            prop_assert_eq!(index.used_in(segment), bytes);
            let (mut found, mut from) = (Vec::new(), Some(0));
            while let Some(slot) = from {
                let (part, next) = index.in_segment(segment, slot, count);
                found.extend(part);
                from = next;
            }
            found.sort_unstable();
            prop_assert_eq!(found, in_it);
        }
        prop_assert_eq!(index.used(), used);
    }
}
