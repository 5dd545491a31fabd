//! Opening the store: locks, directories, what a crash left half done, the index.

mod import;
mod replay;

use crate::{
    Durability, Store, StoreError,
    backend::TablesFile,
    carry::Carrier,
    checkpoint::{Checkpoints, note},
    committer::Committer,
    error::{database, io_error},
    health::Health,
    images::{self, Images, flush_disk_of, lock_dir},
    known::{Learnt, Spent},
    log::{Directory, Disk, End, Writer, record::Salt},
    store::Shared,
    tables::{FIRST, KNOWN, LOG, META, SALT, SEQUENCE, SERVER},
};
use imgsys_types::{Digest, ServerId};
use redb::{Database, ReadableTable, StorageBackend, WriteTransaction, backends::FileBackend};
use replay::{LogState, Replay};
use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, RwLock, mpsc},
    time::Instant,
};

/// What the database keeps in memory, in bytes: the upper levels of the table of images.
const CACHE: usize = 16 << 20;

const OPENING: &str = "opening the spool";

/// Where the store is and how safe it keeps things.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The directory of the spool; made if need be.
    pub dir: PathBuf,
    /// The directory of the image files: `images` in `dir` if not given.
    pub images_dir: Option<PathBuf>,
    /// What an accepted image survives.
    pub durability: Durability,
    /// Whether files of large images are written past the kernel's cache, where the file system can.
    pub direct_io: bool,
    /// What uploads leave free on the disk, in bytes, so that the spool can still write results
    /// and removals: a database that meets a full disk in a commit has to be opened anew.
    pub min_free: u64,
}

/// How the log is kept.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// From which length on a segment is followed by the next, in bytes.
    segment: u64,
    /// How many images gather in memory before they go into their table. The more, the more of them
    /// share a page; some 130 bytes each.
    gather: usize,
}

const TUNING: Tuning = Tuning {
    segment: 64 << 20,
    gather: 64 << 10,
};

impl Store {
    /// Opens the store, or makes a new one. Blocks: the whole log is read.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let backend = |file| FileBackend::new(file).map_err(database(OPENING));
        Self::open_on(options, TUNING, backend, |directory| Arc::new(directory))
    }

    /// Opens the store with its database on what `backend` makes of the file, and its log on what
    /// `disk` makes of the directory.
    fn open_on<B: StorageBackend>(
        options: StoreOptions,
        tuning: Tuning,
        backend: impl FnOnce(File) -> Result<B, StoreError>,
        disk: impl FnOnce(Directory) -> Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let start = Instant::now();
        let StoreOptions {
            dir,
            images_dir,
            durability,
            direct_io,
            min_free,
        } = options;
        let dir_handle = lock_dir(&dir)?;
        let images_dir = images_dir.unwrap_or_else(|| dir.join("images"));
        let images = Images::open(images_dir, durability, direct_io, min_free)?;
        let disk = disk(log_directory(&dir, &images)?);
        let path = dir.join("spool.redb");
        if !path.try_exists().map_err(io_error("looking for", &path))? {
            if !disk
                .segments()
                .map_err(io_error("listing", &dir))?
                .is_empty()
            {
                return Err(StoreError::CorruptLog {
                    path,
                    offset: 0,
                    reason: "the database that belongs to the log is missing",
                });
            }
            make_database(&dir, &path)?;
        }
        let opened = File::options().read(true).write(true).open(&path);
        let file = opened.map_err(io_error("opening", &path))?;
        if matches!(durability, Durability::Fsync) {
            // All directories above, and the database's own entry in its directory.
            images.flush()?;
            flush_disk_of(&dir_handle, &dir)?;
            images::forget_cached(&file, &path)?;
        }
        let file = backend(file)?;
        let database = open_database(&path, TablesFile { file, durability })?;
        let writer = |salt, end| {
            let (disk, unflushed) = (Arc::clone(&disk), images.unflushed.clone());
            Writer::new(disk, salt, durability, unflushed, tuning.segment, end)
        };
        let (server, state, spent) = settle(&database, &images, &*disk, writer)?;
        let mut replay = Replay::read(&*disk, state, spent, durability)?;
        let mut log = writer(state.salt, replay.end);
        let unproven = take_back(&mut replay, &mut log, &images)?;
        tracing::info!(
            dir = %dir.display(), %server, jobs = replay.spool.jobs.len(), took = ?start.elapsed(),
            "opened the store"
        );
        let shared = Arc::new(Shared {
            server,
            database,
            salt: state.salt,
            spool: RwLock::new(replay.spool),
            learnt: RwLock::new(Learnt::new(replay.recent, replay.spent)),
            images: Arc::new(images),
            health: Arc::new(Health::sound()),
            dir,
            dir_handle,
        });
        let (sender, queue) = mpsc::channel();
        let checkpoints = Checkpoints::new(Arc::clone(&shared), disk, tuning.gather, state.first);
        let carrier = Carrier::new(tuning.segment);
        let committer = Committer::new(Arc::clone(&shared), log, carrier, checkpoints, unproven);
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || committer.run(&queue))
            .map_err(io_error("starting the committer of", &shared.dir))?;
        Ok(Self::new(shared, sender, thread))
    }
}

/// The directory of the log, made if need be.
fn log_directory(dir: &Path, images: &Images) -> Result<Directory, StoreError> {
    let path = dir.join("spool");
    fs::create_dir_all(&path).map_err(io_error("making directory", &path))?;
    let handle = File::open(&path).map_err(io_error("opening directory", &path))?;
    Ok(Directory {
        path,
        handle,
        images: images.handle()?,
    })
}

/// Makes an empty database. It is not written in its place: half of one, which a crash would leave
/// there, is no database at all, and no later start would get past it.
fn make_database(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let half = dir.join("spool.redb.new");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let made = options.open(&half).and_then(|file| {
        let again = file.try_clone()?;
        Ok((file, again))
    });
    let (file, again) = made.map_err(io_error("making", &half))?;
    let backend = FileBackend::new(file).map_err(database(OPENING))?;
    drop(open_database(&half, backend)?);
    again.sync_all().map_err(io_error("flushing", &half))?;
    fs::rename(&half, path).map_err(io_error("making", path))
}

fn open_database(path: &Path, file: impl StorageBackend) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let shown = path.display().to_string();
    builder.set_repair_callback(move |repair| {
        let progress = repair.progress();
        tracing::warn!(spool = shown, progress, "not closed cleanly, checking");
    });
    builder.create_with_backend(file).map_err(|error| {
        match (redb::Error::from(error), path.parent()) {
            (redb::Error::DatabaseAlreadyOpen, Some(dir)) => StoreError::Locked { dir: dir.into() },
            (redb::Error::Io(source), _) => io_error("opening", path)(source),
            (error, _) => database(OPENING)(error),
        }
    })
}

/// Makes the tables whole, and says what they say of the log.
fn settle(
    database_: &Database,
    images: &Images,
    disk: &dyn Disk,
    writer: impl FnOnce(Salt, End) -> Writer,
) -> Result<(ServerId, LogState, Spent), StoreError> {
    let transaction = database_.begin_write().map_err(database(OPENING))?;
    let server = server_id(&transaction)?;
    let state = log_state(&transaction, images, disk, writer)?;
    // Made here, so that they can be read before anybody has written to them.
    transaction.open_table(KNOWN).map_err(database(OPENING))?;
    let spent = Spent::read(&transaction)?;
    transaction.commit().map_err(database(OPENING))?;
    Ok((server, state, spent))
}

fn log_state(
    transaction: &WriteTransaction,
    images: &Images,
    disk: &dyn Disk,
    writer: impl FnOnce(Salt, End) -> Writer,
) -> Result<LogState, StoreError> {
    let state = if import::is_old(transaction)? {
        import::import(transaction, images, disk, writer)?
    } else {
        let table = transaction.open_table(LOG).map_err(database(OPENING))?;
        let value = |key| -> Result<Option<u64>, StoreError> {
            let value = table.get(key).map_err(database(OPENING))?;
            Ok(value.map(|value| value.value()))
        };
        let small = |value| u32::try_from(value).ok();
        match (value(SALT)?, value(FIRST)?, value(SEQUENCE)?) {
            (None, None, None) => new_log(1),
            (salt, first, sequence) => {
                let state = salt
                    .and_then(small)
                    .zip(first.and_then(small))
                    .zip(sequence);
                let Some(((salt, first), sequence)) = state else {
                    return Err(StoreError::CorruptSpool {
                        what: "state of its log",
                    });
                };
                let salt = Salt(salt);
                return Ok(LogState {
                    salt,
                    first,
                    sequence,
                });
            }
        }
    };
    note(transaction, SALT, state.salt.0.into())?;
    note(transaction, FIRST, state.first.into())?;
    note(transaction, SEQUENCE, state.sequence)?;
    Ok(state)
}

/// A log that begins with this segment.
fn new_log(first: u32) -> LogState {
    // Four of the bytes of a random id that are random.
    let [a, b, c, d, ..] = *ServerId::generate().as_bytes();
    LogState {
        salt: Salt(u32::from_le_bytes([a, b, c, d])),
        first,
        sequence: 0,
    }
}

fn server_id(transaction: &WriteTransaction) -> Result<ServerId, StoreError> {
    let mut meta = transaction.open_table(META).map_err(database(OPENING))?;
    if let Some(found) = meta.get(SERVER).map_err(database(OPENING))? {
        let id = found.value().try_into().map(ServerId::from_bytes);
        return id.map_err(|_| StoreError::CorruptSpool { what: "server id" });
    }
    let server = ServerId::generate();
    let inserted = meta.insert(SERVER, server.as_bytes().as_slice());
    drop(inserted.map_err(database(OPENING))?);
    Ok(server)
}

/// Takes back the jobs of the last batch whose image is not whole, for its flush may have been cut
/// short: the record may have reached the disk without the image. No such job was told as accepted,
/// as that waits for the flush. Says whether the batch that is last now relies on images.
fn take_back(replay: &mut Replay, log: &mut Writer, images: &Images) -> Result<bool, StoreError> {
    let mut halves: HashMap<Digest, bool> = HashMap::new();
    let mut gone = Vec::new();
    for unproven in &replay.unproven {
        let sha256 = unproven.sha256;
        if let Entry::Vacant(entry) = halves.entry(sha256) {
            entry.insert(!images.is_intact(&sha256, unproven.size)?);
        }
        if halves.get(&sha256) == Some(&true) {
            tracing::warn!(job = %unproven.job, %sha256, "never accepted: no whole image");
            gone.push(unproven.job);
        }
    }
    if gone.is_empty() {
        return Ok(!replay.unproven.is_empty());
    }
    let halves = halves.into_iter().filter(|(_, half)| *half);
    let halves: Vec<Digest> = halves.map(|(digest, _)| digest).collect();
    log.begin();
    log.gone(&gone);
    log.forgotten(&halves);
    let written = log.write()?;
    replay.spool.segments.insert(written.segment, written.file);
    for job in gone {
        replay.spool.jobs.remove(job);
    }
    for digest in halves {
        replay.recent.forget(digest);
        images.remove(&digest);
    }
    Ok(false)
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;
