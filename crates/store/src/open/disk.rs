//! A disk that remembers what was written to it between which flushes, so that a test can ask what
//! a power cut at any moment may leave.
//!
//! The spool's database and its log write to memory. Image files are real ones; what they were is
//! noted at each flush. Each flush covers what it promises to and no more: a file, which files there
//! are, or the images. Until then each write may have reached the disk or not, whole or in part, in
//! any order.

use crate::log::{Disk, SegmentFile};
use redb::{BackendError, StorageBackend};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

/// One of the spool's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Tables,
    Segment(u32),
}

/// One thing that was done to a file.
#[derive(Debug, Clone)]
pub(super) enum Written {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Written {
    /// Does it to a file, or its first `bytes` only.
    pub(super) fn apply(&self, file: &mut Vec<u8>, bytes: usize) {
        match self {
            Self::Length(length) if bytes > 0 => file.resize(usize::try_from(*length).unwrap(), 0),
            Self::Length(_) => {}
            Self::Bytes(offset, data) => {
                let data = &data[..bytes.min(data.len())];
                let start = usize::try_from(*offset).unwrap();
                let end = start + data.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[start..end].copy_from_slice(data);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(_, data) => data.len(),
            Self::Length(_) => 1,
        }
    }
}

/// An image's file: what is in it, and what tells it from another of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageFile {
    pub(super) bytes: Vec<u8>,
    made: Option<SystemTime>,
}

/// The image files by their names.
pub(super) type ImageFiles = BTreeMap<String, ImageFile>;

/// What was done, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Written(Name, Written),
    Made(u32),
    Removed(u32),
    Flushed(Name),
    FlushedEntries,
    FlushedImages,
}

/// The files of the spool.
pub(super) type Files = BTreeMap<Name, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    /// As the running system sees them, those too that are removed and still open.
    files: Files,
    entries: BTreeSet<u32>,
    steps: Vec<Step>,
    /// The image files as they were when these steps were done.
    images: BTreeMap<usize, ImageFiles>,
}

/// A disk in use. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    images_dir: PathBuf,
    state: Arc<Mutex<State>>,
}

/// What a recorder has seen.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) start: (Files, ImageFiles),
    pub(super) steps: Vec<Step>,
    pub(super) images: BTreeMap<usize, ImageFiles>,
}

impl Recorder {
    /// A disk with these files on it, whose images are in that directory.
    pub(super) fn new(images_dir: &Path, files: Files) -> Self {
        let entries = files.keys().filter_map(|name| match name {
            Name::Segment(number) => Some(*number),
            Name::Tables => None,
        });
        let state = State {
            entries: entries.collect(),
            files,
            ..State::default()
        };
        Self {
            images_dir: images_dir.into(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The moment: how many steps were done.
    pub(super) fn now(&self) -> usize {
        self.state().steps.len()
    }

    /// All that was done since the files were these.
    pub(super) fn past(&self, start: (Files, ImageFiles)) -> Past {
        let mut state = self.state();
        let end = state.steps.len();
        let mut images = std::mem::take(&mut state.images);
        images.insert(end, image_files(&self.images_dir));
        Past {
            start,
            steps: std::mem::take(&mut state.steps),
            images,
        }
    }

    fn step(&self, step: Step) {
        let mut state = self.state();
        let state = &mut *state;
        match &step {
            Step::Written(name, written) => {
                written.apply(state.files.entry(*name).or_default(), written.len());
            }
            Step::Made(segment) => {
                state.entries.insert(*segment);
                state.files.insert(Name::Segment(*segment), Vec::new());
            }
            Step::Removed(segment) => {
                state.entries.remove(segment);
            }
            // The committer's own flushes: nobody adds or removes images meanwhile.
            Step::Flushed(Name::Segment(_)) | Step::FlushedEntries | Step::FlushedImages => {
                let images = image_files(&self.images_dir);
                state.images.insert(state.steps.len(), images);
            }
            Step::Flushed(Name::Tables) => {}
        }
        state.steps.push(step);
    }

    fn read_at(&self, name: Name, offset: u64, out: &mut [u8]) -> usize {
        let state = self.state();
        let file = state.files.get(&name).unwrap();
        let start = usize::try_from(offset).unwrap().min(file.len());
        let count = out.len().min(file.len() - start);
        out[..count].copy_from_slice(&file[start..start + count]);
        count
    }

    fn len_of(&self, name: Name) -> u64 {
        self.state().files.get(&name).unwrap().len() as u64
    }
}

impl StorageBackend for Recorder {
    fn sync_data(&self) -> io::Result<()> {
        self.step(Step::Flushed(Name::Tables));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len_of(Name::Tables))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = self.read_at(Name::Tables, offset, out);
        let whole = (count == out.len()).then_some(());
        whole.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(Step::Written(Name::Tables, Written::Length(len)));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = Written::Bytes(offset, data.into());
        self.step(Step::Written(Name::Tables, written));
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Segment(Recorder, u32);

impl Segment {
    fn written(&self, written: Written) {
        self.0.step(Step::Written(Name::Segment(self.1), written));
    }
}

impl SegmentFile for Segment {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len_of(Name::Segment(self.1)))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read_at(Name::Segment(self.1), offset, out))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.written(Written::Bytes(offset, bytes.into()));
        Ok(())
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.written(Written::Length(len));
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.written(Written::Length(len));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.step(Step::Flushed(Name::Segment(self.1)));
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Recorder {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(self.state().entries.iter().copied().collect())
    }

    fn open(&self, segment: u32) -> io::Result<Arc<dyn SegmentFile>> {
        let is_new = !self.state().entries.contains(&segment);
        if is_new {
            self.step(Step::Made(segment));
        }
        Ok(Arc::new(Segment(self.clone(), segment)))
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        self.step(Step::Removed(segment));
        Ok(())
    }

    fn path(&self, segment: u32) -> PathBuf {
        format!("segment {segment}").into()
    }

    fn flush_entries(&self) -> io::Result<()> {
        self.step(Step::FlushedEntries);
        Ok(())
    }

    fn flush_images(&self) -> io::Result<()> {
        self.step(Step::FlushedImages);
        Ok(())
    }
}

/// What has surely reached the disk by some step, and what may have.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// Also those whose name may not have.
    files: Files,
    entries: BTreeSet<u32>,
    pub(super) pending: Vec<(Name, Written)>,
    /// Segments that were made (or removed) and may not be there (or may still be).
    pub(super) pending_entries: Vec<(u32, bool)>,
}

impl Reached {
    pub(super) fn new(files: &Files) -> Self {
        let recorder = Recorder::new(Path::new(""), files.clone());
        let entries = recorder.state().entries.clone();
        Self {
            files: files.clone(),
            entries,
            pending: Vec::new(),
            pending_entries: Vec::new(),
        }
    }

    pub(super) fn go_on(&mut self, step: &Step) {
        match step {
            Step::Written(name, written) => self.pending.push((*name, written.clone())),
            Step::Made(segment) => {
                self.files.insert(Name::Segment(*segment), Vec::new());
                self.pending_entries.push((*segment, true));
            }
            Step::Removed(segment) => self.pending_entries.push((*segment, false)),
            Step::Flushed(flushed) => {
                for (name, written) in std::mem::take(&mut self.pending) {
                    if name == *flushed {
                        written.apply(self.files.entry(name).or_default(), written.len());
                    } else {
                        self.pending.push((name, written));
                    }
                }
            }
            Step::FlushedEntries => {
                for (segment, made) in std::mem::take(&mut self.pending_entries) {
                    set(&mut self.entries, segment, made);
                }
            }
            Step::FlushedImages => {}
        }
    }

    /// The files when of each pending write so many bytes have reached the disk, and those of the
    /// pending entries that are to.
    pub(super) fn left(
        &self,
        mut bytes: impl FnMut(usize, &Written) -> usize,
        mut entry: impl FnMut() -> bool,
    ) -> Files {
        let mut entries = self.entries.clone();
        for (segment, made) in &self.pending_entries {
            if entry() {
                set(&mut entries, *segment, *made);
            }
        }
        let mut files = self.files.clone();
        for (index, (name, written)) in self.pending.iter().enumerate() {
            let count = bytes(index, written);
            written.apply(files.entry(*name).or_default(), count);
        }
        files.retain(|name, _| match name {
            Name::Tables => true,
            Name::Segment(segment) => entries.contains(segment),
        });
        files
    }
}

fn set(entries: &mut BTreeSet<u32>, segment: u32, made: bool) {
    if made {
        entries.insert(segment);
    } else {
        entries.remove(&segment);
    }
}

/// The image files under a store's directory.
pub(super) fn image_files(images_dir: &Path) -> ImageFiles {
    let mut found = BTreeMap::new();
    for fan in fs::read_dir(images_dir).into_iter().flatten() {
        let fan = fan.unwrap();
        if fan.file_name() == "incoming" {
            continue;
        }
        for file in fs::read_dir(fan.path()).unwrap() {
            let file = file.unwrap();
            let image = ImageFile {
                bytes: fs::read(file.path()).unwrap(),
                made: file.metadata().unwrap().created().ok(),
            };
            found.insert(file.file_name().into_string().unwrap(), image);
        }
    }
    found
}
