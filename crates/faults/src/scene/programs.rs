//! Where programs are.

use crate::cases::Skipped;
use anyhow::{Context, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A program of ours, which lies beside this one.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let current = env::current_exe().context("finding this program's file")?;
    let mut beside = current.parent().unwrap_or(Path::new("/"));
    if beside.ends_with("deps") {
        beside = beside.parent().unwrap_or(beside);
    }
    let program = beside.join(name);
    ensure!(
        program.exists(),
        "{} is missing: cargo build --workspace --bins",
        program.display()
    );
    Ok(program)
}

/// A library that makes a program believe in another time; skips the case where there is none.
pub fn faketime() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists());
    found.ok_or_else(|| {
        Skipped("faketime is not installed: apt-get install libfaketime".into()).into()
    })
}
