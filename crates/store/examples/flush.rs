//! Measures ways of making a batch of small images and their spool records durable; the figures
//! that decided are in the crate's documentation.
//!
//! `cargo run --release -p imgsys-store --example flush [DIR] [BYTES]`; DIR must be on the disk
//! that is meant.

use redb::{Database, StorageBackend, TableDefinition, backends::FileBackend};
use std::{
    error::Error,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const SPOOL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spool");
const PENDING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pending");
/// How many unflushed bytes the third way lets gather before a `syncfs` covers them.
const GATHER: usize = 8 << 20;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Clone, Copy)]
enum Way {
    /// `fsync` of each file and its directory, then the commit.
    FsyncEach,
    /// One `syncfs`, then the commit.
    SyncfsThenCommit,
    /// The bytes in the record too; a `syncfs` once many have gathered.
    BytesInRecord,
    /// The commit's own flush is a `syncfs`: what the store does.
    CommitBySyncfs,
}

const WAYS: [Way; 4] = [
    Way::FsyncEach,
    Way::SyncfsThenCommit,
    Way::BytesInRecord,
    Way::CommitBySyncfs,
];

/// redb's file, whose flush is a `syncfs`.
#[derive(Debug)]
struct WholeDisk(FileBackend, File);

impl StorageBackend for WholeDisk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.1)?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

struct Disk {
    way: Way,
    root: PathBuf,
    database: Database,
    handle: File,
    next: u64,
    pending: Vec<u64>,
}

impl Disk {
    fn new(root: &Path, way: Way) -> Outcome<Self> {
        for fan in 0..=255 {
            fs::create_dir(root.join(format!("{fan:02x}")))?;
        }
        let path = root.join("spool.redb");
        let file = File::create_new(&path)?;
        drop(file);
        let file = FileBackend::new(File::options().read(true).write(true).open(path)?)?;
        let handle = File::open(root)?;
        let mut builder = Database::builder();
        builder.set_cache_size(32 << 20);
        let database = match way {
            Way::CommitBySyncfs => {
                builder.create_with_backend(WholeDisk(file, handle.try_clone()?))?
            }
            _ => builder.create_with_backend(file)?,
        };
        rustix::fs::syncfs(&handle)?;
        Ok(Self {
            way,
            root: root.into(),
            database,
            handle,
            next: 0,
            pending: Vec::new(),
        })
    }

    fn batch(&mut self, count: usize, bytes: &[u8]) -> Outcome {
        let ids = self.next..self.next + count as u64;
        self.next = ids.end;
        for id in ids.clone() {
            let fan = self.root.join(format!("{:02x}", spread(id) & 255));
            let mut file = File::create(fan.join(format!("{id:064x}")))?;
            file.write_all(bytes)?;
            if matches!(self.way, Way::FsyncEach) {
                file.sync_data()?;
                File::open(fan)?.sync_all()?;
            }
        }
        let gathered = self.pending.len() * bytes.len() >= GATHER;
        let mut covered = Vec::new();
        if matches!(self.way, Way::SyncfsThenCommit) || gathered {
            rustix::fs::syncfs(&self.handle)?;
            covered = std::mem::take(&mut self.pending);
        }
        let write = self.database.begin_write()?;
        {
            let mut spool = write.open_table(SPOOL)?;
            let mut pending = write.open_table(PENDING)?;
            for id in covered {
                pending.remove(id)?;
            }
            for id in ids {
                // A record, and an entry of the index, of the sizes that they have.
                let key = [b"local\0".as_slice(), &id.to_be_bytes(), &[7; 16]].concat();
                spool.insert(key.as_slice(), [1; 280].as_slice())?;
                let key = [spread(id).to_be_bytes().as_slice(), &[8; 32]].concat();
                spool.insert(key.as_slice(), [1; 8].as_slice())?;
                if matches!(self.way, Way::BytesInRecord) {
                    pending.insert(id, bytes)?;
                    self.pending.push(id);
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// A number spread over all 64 bits, as digests are.
const fn spread(id: u64) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// This thread's time on a processor.
fn on_cpu() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".into());
    let size: usize = arguments.next().map_or(Ok(10_240), |text| text.parse())?;
    println!("images of {size} bytes; ms a batch: middle, nine in ten below, on the CPU");
    // Removed at the end only: ext4 without a journal is slow to make files soon after many
    // were removed.
    let all = tempfile::tempdir_in(&parent)?;
    for (count, rounds) in [(1, 400), (8, 150), (64, 100)] {
        for way in WAYS {
            let root = all.path().join(format!("{way:?}-{count}"));
            fs::create_dir(&root)?;
            let mut disk = Disk::new(&root, way)?;
            let mut bytes = vec![0; size];
            let mut took = Vec::with_capacity(rounds);
            let cpu = on_cpu()?;
            for round in 0..rounds {
                bytes.fill(u8::try_from(round & 255)?);
                let start = Instant::now();
                disk.batch(count, &bytes)?;
                took.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let cpu = on_cpu()?.saturating_sub(cpu).as_secs_f64() * 1e3
                / f64::from(u32::try_from(rounds)?);
            took.sort_by(f64::total_cmp);
            let (middle, most) = (took[rounds / 2], took[rounds * 9 / 10]);
            println!("{count:3} x {way:?}: {middle:.2} {most:.2} {cpu:.2}");
        }
    }
    Ok(())
}
