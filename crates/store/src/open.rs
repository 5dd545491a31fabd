//! Opening the store: locks, directories, what a crash left half done, the index.

use crate::{
    Durability, Store, StoreError,
    backend::SpoolFile,
    committer::Committer,
    error::{database, io_error},
    health::Health,
    images::{self, Images, flush_disk_of, lock_dir},
    index::Index,
    store::Shared,
    tables::{self, KNOWN, META, SERVER, SPENT, SPOOL, UNPROVEN},
};
use imgsys_types::{Digest, ServerId};
use redb::{
    Database, ReadableTable, ReadableTableMetadata, StorageBackend, WriteTransaction,
    backends::FileBackend,
};
use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, mpsc},
    time::Instant,
};

/// What the database keeps in memory, in bytes: the spool's newest end is all that is hot.
const CACHE: usize = 32 << 20;

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

impl Store {
    /// Opens the store, or makes a new one. Blocks: after a crash the whole spool is read.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(options, |file| {
            FileBackend::new(file).map_err(database(OPENING))
        })
    }

    /// Opens the store with its database on what `backend` makes of the file.
    fn open_on<B: StorageBackend>(
        options: StoreOptions,
        backend: impl FnOnce(File) -> Result<B, StoreError>,
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
        let path = dir.join("spool.redb");
        if !path.try_exists().map_err(io_error("looking for", &path))? {
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
        let database = open_database(
            &path,
            SpoolFile {
                file: backend(file)?,
                images_dir: images.handle()?,
                unflushed: images.unflushed.clone(),
                durability,
            },
        )?;
        let (server, index) = settle(&database, &images)?;
        tracing::info!(
            dir = %dir.display(), %server, jobs = index.len(), took = ?start.elapsed(),
            "opened the store"
        );
        let shared = Arc::new(Shared {
            server,
            database,
            index: RwLock::new(index),
            images: Arc::new(images),
            health: Arc::new(Health::sound()),
            dir,
            dir_handle,
        });
        let (sender, queue) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || committer.run(&queue))
            .map_err(io_error("starting the committer of", &shared.dir))?;
        Ok(Self::new(shared, sender, thread))
    }
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
    std::fs::rename(&half, path).map_err(io_error("making", path))
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

/// Makes the tables whole and reads what is kept of them in memory.
fn settle(database_: &Database, images: &Images) -> Result<(ServerId, Index), StoreError> {
    let transaction = database_.begin_write().map_err(database(OPENING))?;
    let server = server_id(&transaction)?;
    drop_unproven(&transaction, images)?;
    let index = read_index(&transaction)?;
    // Made here, so that it can be read before anybody has written to it.
    transaction.open_table(SPENT).map_err(database(OPENING))?;
    transaction.commit().map_err(database(OPENING))?;
    Ok((server, index))
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

/// Takes back what the last commit named if its flush was cut short: the record may have reached
/// the disk without its image. No such job was told as accepted, as that waits for the flush.
fn drop_unproven(transaction: &WriteTransaction, images: &Images) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(database(OPENING))?;
    let mut spool = transaction.open_table(SPOOL).map_err(database(OPENING))?;
    let mut known = transaction.open_table(KNOWN).map_err(database(OPENING))?;
    let Some(unproven) = meta.remove(UNPROVEN).map_err(database(OPENING))? else {
        return Ok(());
    };
    let keys = tables::decode_keys(unproven.value()).ok_or(StoreError::CorruptSpool {
        what: "list of unproven records",
    })?;
    let mut cut_short: HashMap<Digest, bool> = HashMap::new();
    for key in keys {
        let Some(value) = spool.get(key).map_err(database(OPENING))? else {
            continue;
        };
        let job = tables::decode_entry(key, value.value())?.run.job;
        drop(value);
        if let Entry::Vacant(entry) = cut_short.entry(job.sha256) {
            entry.insert(!images.is_intact(&job.sha256, job.size)?);
        }
        if cut_short.get(&job.sha256) == Some(&true) {
            tracing::warn!(job = %job.id, sha256 = %job.sha256, "never accepted: no whole image");
            drop(spool.remove(key).map_err(database(OPENING))?);
        }
    }
    for (digest, _) in cut_short.into_iter().filter(|&(_, cut_short)| cut_short) {
        let (first, end) = tables::known_keys(&digest);
        known
            .retain_in(first.as_slice()..end.as_slice(), |_, _| false)
            .map_err(database(OPENING))?;
        images.remove(&digest);
    }
    Ok(())
}

fn read_index(transaction: &WriteTransaction) -> Result<Index, StoreError> {
    let spool = transaction.open_table(SPOOL).map_err(database(OPENING))?;
    let mut index = Index::default();
    let jobs = spool.len().map_err(database(OPENING))?;
    index.reserve(usize::try_from(jobs).unwrap_or(0));
    for entry in spool.iter().map_err(database(OPENING))? {
        let (key, _) = entry.map_err(database(OPENING))?;
        match tables::parse_spool_key(key.value()) {
            Some((owner, submitted_at, job)) => index.insert(&owner, submitted_at, job),
            None => return Err(StoreError::CorruptSpool { what: "key" }),
        }
    }
    Ok(index)
}

#[cfg(test)]
mod disk;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;
