//! What one commit does to the log, the image files and what is kept in memory.

use crate::{
    Accepted, Spooled, StoreError,
    error::{database, io_error},
    images::Images,
    index::Entry,
    known::{Recent, Sizes},
    log::{
        Place, Window, Writer, decode_accepted,
        record::{Flags, Record},
        with_result,
    },
    store::Shared,
    tables::{self, KNOWN},
    upload::Staged,
};
use imgsys_types::{Digest, Job, JobId, JobResult, Owner, Run};
use redb::{ReadOnlyTable, ReadableDatabase};
use std::{
    collections::{HashMap, HashSet},
    io,
};

/// An error of one operation alone. What ends the use of the store is an error of the database,
/// told apart by its variant.
type Done<T> = Result<T, StoreError>;

/// The room that a job's records take at most, with the pages of tables that are copied for them.
const RECORD_ROOM: u64 = 16 << 10;

/// A commit's batch of the log, and what was done for it.
pub(crate) struct Batch<'a> {
    pub(crate) shared: &'a Shared,
    log: &'a mut Writer,
    changes: Changes,
    table: Option<ReadOnlyTable<&'static [u8], u64>>,
    in_question: &'a mut HashMap<Digest, bool>,
    window: Window,
    /// Bytes that may still be written; asked for once a batch.
    room: Option<u64>,
}

/// What becomes true once the batch is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Jobs that came or changed, and those that went.
    pub(crate) jobs: HashMap<JobId, Option<Entry>>,
    pub(crate) images: Recent,
    /// Bytes that came, by owner and day.
    pub(crate) spent: Vec<(Owner, i64, u64)>,
    /// Images whose files this commit's flush makes durable.
    pub(crate) written: HashSet<Digest>,
    /// Whether there are records that rely on them.
    pub(crate) unproven: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn begin(
        shared: &'a Shared,
        log: &'a mut Writer,
        in_question: &'a mut HashMap<Digest, bool>,
    ) -> Self {
        log.begin();
        Self {
            shared,
            log,
            changes: Changes::default(),
            table: None,
            in_question,
            window: Window::narrow(),
            room: None,
        }
    }

    /// What is to be committed; `None` if nothing is.
    pub(crate) fn close(self) -> Option<Changes> {
        (!self.log.is_empty()).then_some(self.changes)
    }

    /// The segment that the batch goes to.
    pub(crate) const fn segment(&self) -> u32 {
        self.log.segment()
    }

    /// The bytes of the batch so far.
    pub(crate) const fn size(&self) -> u64 {
        self.log.size() as u64
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Takes jobs out of the spool; those that are not in it don't matter.
    pub(crate) fn remove(&mut self, jobs: &[JobId]) {
        let mut gone = Vec::with_capacity(jobs.len());
        for &job in jobs {
            if self.entry(job).is_some() {
                self.changes.jobs.insert(job, None);
                gone.push(job);
            }
        }
        if !gone.is_empty() {
            self.log.gone(&gone);
        }
    }

    pub(crate) fn accept(&mut self, run: &Run, image: Staged) -> Done<Accepted> {
        let job = &run.job;
        if let Some(there) = self.there_already(job)? {
            return Ok(there);
        }
        let came = !matches!(image, Staged::Known);
        let sizes = self.sizes(job)?;
        if !self.bring_in(job, sizes, image)? {
            return Ok(Accepted::NotKnown);
        }
        let duplicate = sizes.own.is_some();
        if !duplicate {
            let images = &mut self.changes.images;
            images.learn(job.sha256, job.owner.clone(), job.size);
        }
        if came {
            self.note_spent(job);
        }
        let flags = Flags {
            made_known: !duplicate,
            came,
            written: self.changes.written.contains(&job.sha256),
        };
        self.insert(flags, run, None);
        let checksum = run.checksum;
        Ok(Accepted::New {
            duplicate,
            checksum,
        })
    }

    /// Takes a job into the spool once more, if its image is still here.
    pub(crate) fn rerun(&mut self, spooled: &Spooled) -> Done<Accepted> {
        let job = &spooled.run.job;
        if let Some(there) = self.there_already(job)? {
            return Ok(there);
        }
        let sizes = self.sizes(job)?;
        if !self.bring_in(job, sizes, Staged::Known)? {
            return Ok(Accepted::NotKnown);
        }
        let flags = Flags {
            written: self.changes.written.contains(&job.sha256),
            ..Flags::default()
        };
        self.insert(flags, &spooled.run, spooled.result.as_ref());
        let checksum = spooled.run.checksum;
        Ok(Accepted::New {
            duplicate: true,
            checksum,
        })
    }

    fn there_already(&mut self, job: &Job) -> Done<Option<Accepted>> {
        let Some(entry) = self.entry(job.id) else {
            return Ok(None);
        };
        let spooled = self.spooled(job.id, &entry)?;
        let there = &spooled.run.job;
        let same = there.owner == job.owner && there.sha256 == job.sha256;
        Ok(Some(if same {
            Accepted::Same(Box::new(spooled))
        } else {
            Accepted::Conflict
        }))
    }

    /// Puts a job that is not in the spool into it.
    fn insert(&mut self, flags: Flags, run: &Run, last: Option<&JobResult>) {
        let job = &run.job;
        if let Some(needed) = self.in_question.get_mut(&job.sha256) {
            *needed = true;
        }
        self.changes.unproven |= flags.written;
        let accepted = self.log.accepted(flags, run, last);
        // A submission may turn out to be one of long ago, which has been analysed again since.
        let ended = last.is_some_and(|last| last.run >= run.number);
        let entry = Entry {
            owner: job.owner.clone(),
            submitted_at: job.submitted_at,
            run: run.number,
            accepted,
            end: ended.then_some(accepted),
        };
        self.changes.jobs.insert(job.id, Some(entry));
    }

    fn note_spent(&mut self, job: &Job) {
        let day = tables::day_of(job.submitted_at);
        match self.changes.spent.last_mut() {
            Some((owner, then, bytes)) if *owner == job.owner && *then == day => {
                *bytes = bytes.saturating_add(job.size);
            }
            _ => self.changes.spent.push((job.owner.clone(), day, job.size)),
        }
    }

    /// Sees to it that the image's file is there; `false` if nobody brought it.
    fn bring_in(&mut self, job: &Job, sizes: Sizes, image: Staged) -> Done<bool> {
        let images: &Images = &self.shared.images;
        if matches!(image, Staged::Known) {
            // The job's size is only what the client says; of bytes that came it was checked.
            return match sizes.own {
                Some(size) if size == job.size && images.is_present(&job.sha256, size)? => {
                    images.touch(&job.sha256);
                    Ok(true)
                }
                _ => Ok(false),
            };
        }
        // A file that others' jobs rely on is never written over: a crash in the midst of it
        // would take their image.
        if sizes.anyone == Some(job.size) && images.is_present(&job.sha256, job.size)? {
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
        self.changes.written.insert(job.sha256);
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
        let Some(mut entry) = self.entry(job) else {
            return Ok(None);
        };
        if entry.end.is_some() {
            // The first stands.
            return Ok(self.spooled(job, &entry)?.result);
        }
        // What an earlier run came to is no end of this one.
        if result.run < entry.run {
            return Ok(None);
        }
        entry.end = Some(self.log.result(job, &result));
        self.changes.jobs.insert(job, Some(entry));
        Ok(Some(result))
    }

    /// From here on it is noted for which of these images a job is accepted.
    pub(crate) fn question(&mut self, images: Vec<Digest>) {
        self.in_question.clear();
        self.in_question
            .extend(images.into_iter().map(|digest| (digest, false)));
    }

    /// Forgets those of the images in question for which no job was accepted meanwhile; gives
    /// them, for their files go once this is committed.
    pub(crate) fn remove_images(&mut self, mut images: Vec<Digest>) -> Vec<Digest> {
        images.retain(|digest| self.in_question.get(digest) == Some(&false));
        self.in_question.clear();
        for &digest in &images {
            self.changes.images.forget(digest);
        }
        if !images.is_empty() {
            self.log.forgotten(&images);
        }
        images
    }

    /// Writes a batch even if there is nothing in it: the one before it is proven by that.
    pub(crate) fn settle(&mut self) {
        if self.log.is_empty() {
            self.log.gone(&[]);
        }
    }

    /// Writes a job's records once more if one of them is in this segment.
    pub(crate) fn carry(&mut self, job: JobId, segment: u32) -> Done<()> {
        let Some(mut entry) = self.entry(job) else {
            return Ok(());
        };
        let places = [Some(entry.accepted), entry.result()];
        if places
            .iter()
            .flatten()
            .all(|place| place.segment != segment)
        {
            return Ok(());
        }
        // Both are read before either is written.
        let accepted = self.record(entry.accepted)?;
        let result = entry.result().map(|place| self.record(place)).transpose()?;
        let whole = |bytes| {
            Record::whole(bytes, self.shared.salt).map_err(|reason| StoreError::Corrupt {
                job,
                reason: reason.0.into(),
            })
        };
        let (accepted, result) = (whole(&accepted)?, result.as_deref().map(whole).transpose()?);
        let ended_before = entry.end == Some(entry.accepted);
        entry.accepted = self.log.again(&accepted);
        entry.end = match result {
            Some(result) => Some(self.log.again(&result)),
            None => ended_before.then_some(entry.accepted),
        };
        self.changes.jobs.insert(job, Some(entry));
        Ok(())
    }

    /// What is known of a job as of this batch.
    fn entry(&self, job: JobId) -> Option<Entry> {
        match self.changes.jobs.get(&job) {
            Some(changed) => changed.clone(),
            None => self.shared.spool().jobs.get(job),
        }
    }

    fn spooled(&mut self, job: JobId, entry: &Entry) -> Done<Spooled> {
        let salt = self.shared.salt;
        let spooled = decode_accepted(job, &self.record(entry.accepted)?, salt)?;
        match entry.result() {
            Some(place) => with_result(spooled, &self.record(place)?, salt),
            None => Ok(spooled),
        }
    }

    /// The bytes of a record, in the log or in this batch.
    fn record(&mut self, place: Place) -> Done<Vec<u8>> {
        if let Some(bytes) = self.log.unwritten(place) {
            return Ok(bytes.to_vec());
        }
        let file = self.shared.spool().file(place)?;
        self.window.record(place, &*file).map(<[u8]>::to_vec)
    }

    /// What is known of a job's image as of this batch.
    fn sizes(&mut self, job: &Job) -> Done<Sizes> {
        let (digest, owner) = (&job.sha256, &job.owner);
        let sizes = self.changes.images.sizes(digest, owner);
        let sizes = sizes.or(|| self.shared.learnt().sizes(digest, owner));
        if sizes.is_settled() {
            return Ok(sizes);
        }
        let table = match self.table.take() {
            Some(table) => table,
            None => open_known(self.shared)?,
        };
        let known = tables::known(&table, digest, owner);
        self.table = Some(table);
        let (own, anyone) = known?;
        Ok(sizes.or(|| Sizes::in_table(own, anyone)))
    }
}

fn open_known(shared: &Shared) -> Done<ReadOnlyTable<&'static [u8], u64>> {
    const DOING: &str = "reading the index of images";
    let transaction = shared.database.begin_read().map_err(database(DOING))?;
    transaction.open_table(KNOWN).map_err(database(DOING))
}
