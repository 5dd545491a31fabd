//! What one commit does to the tables, the image files and the index.

use crate::{
    Accepted, Spooled, StoreError,
    error::{database, io_error},
    images::Images,
    store::Shared,
    tables::{self, KNOWN, META, SPENT, SPOOL, UNPROVEN},
    upload::Staged,
};
use imgsys_types::{Digest, Job, JobId, JobResult, Owner, Run};
use redb::{ReadableTable, Table, WriteTransaction};
use std::{
    collections::{HashMap, HashSet},
    io,
};

/// An error of the database, or one of an image alone, told apart by its variant.
type Done<T> = Result<T, StoreError>;

const DOING: &str = "writing to the spool";

/// The room that a job's records take at most, with the pages that are copied for them.
const RECORD_ROOM: u64 = 16 << 10;

/// The tables of one commit, and what was done to them.
pub(crate) struct Batch<'a> {
    shared: &'a Shared,
    transaction: &'a WriteTransaction,
    spool: Table<'a, &'static [u8], &'static [u8]>,
    known: Table<'a, &'static [u8], u64>,
    changed: bool,
    /// Images whose files this commit's flush makes durable, and the records that rely on them.
    written: HashSet<Digest>,
    unproven: Vec<Vec<u8>>,
    in_question: &'a mut HashMap<Digest, bool>,
    /// Bytes that came, by owner and day.
    spent: HashMap<(Owner, i64), u64>,
    /// Bytes that may still be written; asked for once a batch.
    room: Option<u64>,
}

/// What a batch comes to.
pub(crate) enum Applied {
    /// There is nothing to commit.
    Nothing,
    /// There is, and whether it names images that its flush has yet to make durable.
    Changes { unproven: bool },
}

impl<'a> Batch<'a> {
    pub(crate) fn open(
        shared: &'a Shared,
        transaction: &'a WriteTransaction,
        in_question: &'a mut HashMap<Digest, bool>,
    ) -> Done<Self> {
        Ok(Self {
            shared,
            transaction,
            spool: transaction.open_table(SPOOL).map_err(database(DOING))?,
            known: transaction.open_table(KNOWN).map_err(database(DOING))?,
            changed: false,
            written: HashSet::new(),
            unproven: Vec::new(),
            in_question,
            spent: HashMap::new(),
            room: None,
        })
    }

    /// Takes jobs out of the spool; those that are not in it don't matter.
    pub(crate) fn remove(&mut self, jobs: &[JobId]) -> Done<()> {
        for &job in jobs {
            let Some(key) = self.shared.index().key(job) else {
                continue;
            };
            let removed = self.spool.remove(key.as_slice());
            drop(removed.map_err(database(DOING))?);
            self.shared.index_mut().remove(job);
            self.changed = true;
        }
        Ok(())
    }

    pub(crate) fn accept(&mut self, job: Job, image: Staged) -> Done<Accepted> {
        if let Some(there) = self.there_already(&job)? {
            return Ok(there);
        }
        let known_key = tables::known_key(&job.sha256, &job.owner);
        let came = !matches!(image, Staged::Known);
        if !self.bring_in(&job, &known_key, image)? {
            return Ok(Accepted::NotKnown);
        }
        let duplicate = self.make_known(&known_key, job.size)?;
        if came {
            let day = tables::day_of(job.submitted_at);
            *self.spent.entry((job.owner.clone(), day)).or_default() += job.size;
        }
        let run = Run::submission(job);
        self.insert(&Spooled { run, result: None })?;
        Ok(Accepted::New { duplicate })
    }

    /// Takes a job into the spool once more, if its image is still here.
    pub(crate) fn rerun(&mut self, spooled: &Spooled) -> Done<Accepted> {
        let job = &spooled.run.job;
        if let Some(there) = self.there_already(job)? {
            return Ok(there);
        }
        let known_key = tables::known_key(&job.sha256, &job.owner);
        if !self.bring_in(job, &known_key, Staged::Known)? {
            return Ok(Accepted::NotKnown);
        }
        self.insert(spooled)?;
        Ok(Accepted::New { duplicate: true })
    }

    fn there_already(&self, job: &Job) -> Done<Option<Accepted>> {
        let Some((_, spooled)) = self.spooled(job.id)? else {
            return Ok(None);
        };
        let there = &spooled.run.job;
        let same = there.owner == job.owner && there.sha256 == job.sha256;
        Ok(Some(if same {
            Accepted::Same(Box::new(spooled))
        } else {
            Accepted::Conflict
        }))
    }

    /// Puts a job that is not in the spool into it.
    fn insert(&mut self, spooled: &Spooled) -> Done<()> {
        let job = &spooled.run.job;
        if let Some(needed) = self.in_question.get_mut(&job.sha256) {
            *needed = true;
        }
        let key = tables::spool_key(&job.owner, job.submitted_at, job.id);
        self.put(&key, &tables::encode(spooled)?)?;
        // Before the commit, so that the rest of the batch sees it. Readers find no record yet
        // and take the job for unknown, which it is.
        let mut index = self.shared.index_mut();
        index.insert(&job.owner, job.submitted_at, job.id);
        drop(index);
        if self.written.contains(&job.sha256) {
            self.unproven.push(key);
        }
        Ok(())
    }

    /// Sees to it that the image's file is there; `false` if nobody brought it.
    fn bring_in(&mut self, job: &Job, known_key: &[u8], image: Staged) -> Done<bool> {
        let images: &Images = &self.shared.images;
        if matches!(image, Staged::Known) {
            let known = self.known.get(known_key).map_err(database(DOING))?;
            let known = known.map(|size| size.value());
            // The job's size is only what the client says; of bytes that came it was checked.
            return match known {
                Some(size) if size == job.size && images.is_present(&job.sha256, size)? => {
                    images.touch(&job.sha256);
                    Ok(true)
                }
                _ => Ok(false),
            };
        }
        // A file that others' jobs rely on is never written over: a crash in the midst of it
        // would take their image.
        if tables::known_to_anyone(&self.known, &job.sha256)? == Some(job.size)
            && images.is_present(&job.sha256, job.size)?
        {
            images.touch(&job.sha256);
            return Ok(true);
        }
        let bytes = match &image {
            Staged::Bytes(bytes) => bytes.len() as u64,
            Staged::Known | Staged::File(_) => 0,
        };
        self.take_room(bytes + RECORD_ROOM)?;
        match image {
            Staged::Known => return Ok(false),
            Staged::Bytes(bytes) => images.write(&job.sha256, &bytes)?,
            Staged::File(upload) => images.install(&job.sha256, upload)?,
        }
        self.written.insert(job.sha256);
        Ok(true)
    }

    fn take_room(&mut self, bytes: u64) -> Done<()> {
        let room = match self.room {
            Some(room) => room,
            None => self.shared.room()?,
        };
        self.room = Some(room.saturating_sub(bytes));
        if room < bytes {
            let full = io::ErrorKind::StorageFull.into();
            return Err(io_error("writing image to", self.shared.images.dir())(full));
        }
        Ok(())
    }

    pub(crate) fn set_result(&mut self, job: JobId, result: JobResult) -> Done<Option<JobResult>> {
        let Some((key, mut spooled)) = self.spooled(job)? else {
            return Ok(None);
        };
        // What an earlier run came to is no end of this one.
        if !spooled.has_ended() && result.run >= spooled.run.number {
            spooled.result = Some(result);
            let value = tables::encode(&spooled)?;
            self.put(&key, &value)?;
        }
        Ok(spooled.end().cloned())
    }

    /// From here on it is noted for which of these images a job is accepted.
    pub(crate) fn question(&mut self, images: Vec<Digest>) {
        self.in_question.clear();
        self.in_question
            .extend(images.into_iter().map(|digest| (digest, false)));
    }

    /// Forgets those of the images in question for which no job was accepted meanwhile; gives
    /// them, for their files go once this is committed.
    pub(crate) fn remove_images(&mut self, mut images: Vec<Digest>) -> Done<Vec<Digest>> {
        images.retain(|digest| self.in_question.get(digest) == Some(&false));
        self.in_question.clear();
        for digest in &images {
            let (first, end) = tables::known_keys(digest);
            let range = first.as_slice()..end.as_slice();
            let forgotten = self.known.retain_in(range, |_, _| false);
            forgotten.map_err(database(DOING))?;
            self.changed = true;
        }
        Ok(images)
    }

    fn note_spent(&mut self) -> Done<()> {
        if self.spent.is_empty() {
            return Ok(());
        }
        let table = self.transaction.open_table(SPENT);
        let mut table = table.map_err(database(DOING))?;
        for ((owner, day), bytes) in self.spent.drain() {
            let before = table.get(owner.as_str()).map_err(database(DOING))?;
            let before = before.map(|spent| spent.value());
            let bytes = match before {
                Some((then, spent)) if then == day => spent.saturating_add(bytes),
                _ => bytes,
            };
            let inserted = table.insert(owner.as_str(), (day, bytes));
            drop(inserted.map_err(database(DOING))?);
        }
        Ok(())
    }

    /// Names the images that this commit flushes, and forgets those of the one before it, which
    /// are durable. `settle` is to do the latter even if nothing else is to be done.
    pub(crate) fn close(mut self, unproven_before: bool, settle: bool) -> Done<Applied> {
        let unproven = !self.unproven.is_empty();
        self.note_spent()?;
        if !(self.changed || settle && unproven_before) {
            return Ok(Applied::Nothing);
        }
        if unproven || unproven_before {
            let mut meta = self.transaction.open_table(META).map_err(database(DOING))?;
            let keys = tables::encode_keys(&self.unproven);
            let inserted = meta.insert(UNPROVEN, keys.as_slice());
            drop(inserted.map_err(database(DOING))?);
        }
        Ok(Applied::Changes { unproven })
    }

    fn spooled(&self, job: JobId) -> Done<Option<(Vec<u8>, Spooled)>> {
        let Some(key) = self.shared.index().key(job) else {
            return Ok(None);
        };
        let value = self.spool.get(key.as_slice()).map_err(database(DOING))?;
        let spooled = value.map(|value| tables::decode(job, value.value()));
        Ok(spooled.transpose()?.map(|spooled| (key, spooled)))
    }

    /// Whether it was known already.
    fn make_known(&mut self, key: &[u8], size: u64) -> Done<bool> {
        let known = self.known.get(key).map_err(database(DOING))?.is_some();
        if !known {
            drop(self.known.insert(key, size).map_err(database(DOING))?);
        }
        Ok(known)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Done<()> {
        let inserted = self.spool.insert(key, value);
        drop(inserted.map_err(database(DOING))?);
        self.changed = true;
        Ok(())
    }
}
