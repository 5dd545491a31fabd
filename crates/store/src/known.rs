//! Which images owners have sent, and how many bytes: what the log says of it and the tables do not
//! yet.
//!
//! A table of all images ever sent is large, and each new one belongs somewhere else in it: to put
//! them in one by one costs more than all else that a job costs. So they gather here, and go into
//! the table many at once.

use crate::{
    StoreError,
    error::database,
    tables::{self, KNOWN, SPENT},
};
use imgsys_types::{Digest, Owner};
use redb::{ReadableTable, WriteTransaction};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// What was learnt of an image.
#[derive(Debug, Clone, Default)]
struct News {
    /// What the table says of it does not count any more.
    forgotten: bool,
    owners: Vec<(Owner, u64)>,
}

/// What was learnt of images, in the order in which it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    images: HashMap<Digest, News>,
    /// How many things that is: what they take in memory, and in the table.
    len: usize,
}

/// The size of an image, as sent by one owner, and as sent by anybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) own: Option<u64>,
    pub(crate) anyone: Option<u64>,
    /// What was known before does not count.
    forgotten: bool,
}

impl Sizes {
    /// What the table says.
    pub(crate) const fn in_table(own: Option<u64>, anyone: Option<u64>) -> Self {
        Self {
            own,
            anyone,
            forgotten: false,
        }
    }

    /// Whether nothing that was known before can change it.
    pub(crate) const fn is_settled(&self) -> bool {
        self.forgotten || self.own.is_some()
    }

    /// With what was known before.
    pub(crate) fn or(self, before: impl FnOnce() -> Self) -> Self {
        if self.is_settled() {
            return self;
        }
        let before = before();
        Self {
            own: before.own,
            anyone: self.anyone.or(before.anyone),
            forgotten: before.forgotten,
        }
    }
}

impl Recent {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn sizes(&self, digest: &Digest, owner: &Owner) -> Sizes {
        let Some(news) = self.images.get(digest) else {
            return Sizes::default();
        };
        let own = news.owners.iter().find(|(other, _)| other == owner);
        Sizes {
            own: own.map(|(_, size)| *size),
            anyone: news.owners.first().map(|(_, size)| *size),
            forgotten: news.forgotten,
        }
    }

    /// An owner has sent this image. What was known stands.
    pub(crate) fn learn(&mut self, digest: Digest, owner: Owner, size: u64) {
        let owners = &mut self.images.entry(digest).or_default().owners;
        if owners.iter().all(|(other, _)| *other != owner) {
            owners.reserve_exact(1);
            owners.push((owner, size));
            self.len += 1;
        }
    }

    /// Nobody is known to have sent this image any more.
    pub(crate) fn forget(&mut self, digest: Digest) {
        let news = News {
            forgotten: true,
            owners: Vec::new(),
        };
        self.len += 1;
        if let Some(old) = self.images.insert(digest, news) {
            self.len -= old.owners.len() + usize::from(old.forgotten);
        }
    }

    /// Learns what was learnt after all this.
    pub(crate) fn extend(&mut self, later: Self) {
        for (digest, news) in later.images {
            if news.forgotten {
                self.forget(digest);
            }
            for (owner, size) in news.owners {
                self.learn(digest, owner, size);
            }
        }
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        const DOING: &str = "writing the index of images";
        let mut table = transaction.open_table(KNOWN).map_err(database(DOING))?;
        let mut images: Vec<_> = self.images.iter().collect();
        // Neighbours share pages.
        images.sort_unstable_by_key(|(digest, _)| **digest);
        for (digest, news) in images {
            if news.forgotten {
                let (first, end) = tables::known_keys(digest);
                let range = first.as_slice()..end.as_slice();
                let forgotten = table.retain_in(range, |_, _| false);
                forgotten.map_err(database(DOING))?;
            }
            for (owner, size) in &news.owners {
                let key = tables::known_key(digest, owner);
                let inserted = table.insert(key.as_slice(), size);
                drop(inserted.map_err(database(DOING))?);
            }
        }
        Ok(())
    }
}

/// The bytes that came from each owner, on the last day on which any came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent {
    all: HashMap<Owner, (i64, u64)>,
    /// What the table does not say yet.
    changed: HashMap<Owner, (i64, u64)>,
}

impl Spent {
    /// What the table says.
    pub(crate) fn read(transaction: &WriteTransaction) -> Result<Self, StoreError> {
        const DOING: &str = "reading what owners have sent";
        let table = transaction.open_table(SPENT).map_err(database(DOING))?;
        let mut all = HashMap::new();
        for entry in table.iter().map_err(database(DOING))? {
            let (owner, spent) = entry.map_err(database(DOING))?;
            let owner = owner.value().parse();
            all.extend(owner.map(|owner| (owner, spent.value())));
        }
        let changed = HashMap::new();
        Ok(Self { all, changed })
    }

    pub(crate) fn add(&mut self, owner: &Owner, day: i64, bytes: u64) {
        let spent = match self.all.entry(owner.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert((day, 0)),
        };
        *spent = match *spent {
            (then, spent) if then == day => (day, spent.saturating_add(bytes)),
            _ => (day, bytes),
        };
        self.changed.insert(owner.clone(), *spent);
    }

    pub(crate) fn all(&self) -> Vec<(Owner, i64, u64)> {
        let all = self.all.iter();
        all.map(|(owner, (day, bytes))| (owner.clone(), *day, *bytes))
            .collect()
    }
}

/// All that is known beyond the table of images.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    recent: Recent,
    /// On its way into the table.
    going: Arc<Recent>,
    spent: Spent,
}

impl Learnt {
    pub(crate) fn new(recent: Recent, spent: Spent) -> Self {
        Self {
            recent,
            going: Arc::default(),
            spent,
        }
    }

    /// How much has gathered.
    pub(crate) const fn len(&self) -> usize {
        self.recent.len()
    }

    pub(crate) fn sizes(&self, digest: &Digest, owner: &Owner) -> Sizes {
        let recent = self.recent.sizes(digest, owner);
        recent.or(|| self.going.sizes(digest, owner))
    }

    pub(crate) fn spent(&self) -> Vec<(Owner, i64, u64)> {
        self.spent.all()
    }

    /// Learns what a batch says that is on the disk.
    pub(crate) fn extend(&mut self, images: Recent, spent: Vec<(Owner, i64, u64)>) {
        self.recent.extend(images);
        for (owner, day, bytes) in spent {
            self.spent.add(&owner, day, bytes);
        }
    }

    /// What the tables are to learn; [`Learnt::arrived`] says that they have.
    pub(crate) fn depart(&mut self) -> Departure {
        self.going = Arc::new(std::mem::take(&mut self.recent));
        Departure {
            images: Arc::clone(&self.going),
            spent: std::mem::take(&mut self.spent.changed),
        }
    }

    pub(crate) fn arrived(&mut self) {
        self.going = Arc::default();
    }
}

/// What goes into the tables at once.
#[derive(Debug)]
pub(crate) struct Departure {
    images: Arc<Recent>,
    spent: HashMap<Owner, (i64, u64)>,
}

impl Departure {
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.spent.is_empty()
    }

    pub(crate) fn write(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        const DOING: &str = "writing what owners have sent";
        self.images.write(transaction)?;
        let mut table = transaction.open_table(SPENT).map_err(database(DOING))?;
        for (owner, spent) in &self.spent {
            let inserted = table.insert(owner.as_str(), *spent);
            drop(inserted.map_err(database(DOING))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        /// Whatever is learnt and forgotten in whichever layer, the answer is that of a plain table.
        #[test]
        fn layers_say_what_a_table_would(
            steps in vec((0..3_usize, 0..3_u8, 0..3_u8, any::<bool>()), 0..30),
        ) {
            let owner = |number: u8| format!("owner{number}").parse::<Owner>().unwrap();
            let mut layers = [Recent::default(), Recent::default(), Recent::default()];
            let mut table: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
            let mut steps = steps;
            steps.sort_by_key(|step| step.0);
            for (layer, image, who, forget) in steps {
                let digest = Digest::from_bytes([image; 32]);
                if forget {
                    table.remove(&image);
                    layers[layer].forget(digest);
                } else {
                    table.entry(image).or_default().insert(who);
                    layers[layer].learn(digest, owner(who), image.into());
                }
            }
            let [first, second, third] = &layers;
            let mut joined = first.clone();
            joined.extend(second.clone());
            joined.extend(third.clone());
            for (image, who) in (0..3).flat_map(|image| (0..3).map(move |who| (image, who))) {
                let (digest, who_) = (Digest::from_bytes([image; 32]), owner(who));
                let owners = table.get(&image);
                let expected = (
                    owners.filter(|owners| owners.contains(&who)).map(|_| u64::from(image)),
                    owners.map(|_| u64::from(image)),
                );
                let sizes = third.sizes(&digest, &who_).or(|| second.sizes(&digest, &who_)
                    .or(|| first.sizes(&digest, &who_)));
                prop_assert_eq!((sizes.own, sizes.anyone), expected);
                let sizes = joined.sizes(&digest, &who_);
                prop_assert_eq!((sizes.own, sizes.anyone), expected);
            }
        }
    }
}
