//! Memory that was in use before the measurements begin.
//!
//! A virtual machine that has just begun, or whose host takes back what is free, is given its memory
//! page by page when it is touched for the first time, which can take longer than writing to it
//! (9 µs a page on the one that docs/performance.md describes). A system that has run for an hour has
//! its memory full of files that were read and written, and takes pages from those. So the
//! kernel's cache is filled with something that nobody needs before anything is measured, for all
//! systems alike.

use anyhow::Context;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// No more is filled: where there is more, the systems won't get to the end of it.
const MOST: u64 = 32 << 30;
/// As much is left free as the kernel itself likes to keep.
const SPARE: u64 = 1 << 30;
/// How much is read between two looks at what is free.
const STEP: u64 = 64 << 20;

/// The file in the cache. It takes no room on the disk, and its memory is given to whoever needs it.
#[derive(Debug)]
pub(crate) struct Warm {
    _file: File,
    /// Bytes of it that were read.
    pub(crate) bytes: u64,
}

/// Fills the memory that is free with a file of nothing but a hole.
pub(crate) fn memory() -> anyhow::Result<Warm> {
    let mut file = tempfile::tempfile().context("making a file to fill the memory with")?;
    file.set_len(MOST)?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    while bytes < MOST && free()? > SPARE {
        let until = bytes + STEP;
        while bytes < until {
            file.read_exact(&mut buffer)?;
            bytes += buffer.len() as u64;
        }
    }
    Ok(Warm { _file: file, bytes })
}

/// Reads all files below a directory, so that they are in memory; links are not followed.
pub(crate) fn files(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path())?;
        } else if kind.is_file() {
            io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Bytes of memory that nothing is in.
fn free() -> anyhow::Result<u64> {
    let known = fs::read_to_string("/proc/meminfo").context("asking how much memory is free")?;
    let line = known.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo does not say what is free")? << 10)
}
