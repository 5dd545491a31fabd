//! This program under callgrind.

use crate::paths::{BEGINS, ENDS};
use anyhow::{Context, bail};
use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

/// Valgrind's version, if it is there.
pub(crate) fn version() -> Option<String> {
    said("valgrind", &["--version"])
}

/// All on which the counts depend besides the code.
pub(crate) fn tools(valgrind: &str) -> anyhow::Result<String> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = said(&rustc, &["--version"]).context("asking rustc for its version")?;
    let libc = said("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|| "no glibc".into());
    Ok(format!(
        "{rustc}, {libc}, {valgrind}, {}",
        env::consts::ARCH
    ))
}

/// The first line that a program says, if it can be run.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// Instructions of a round of each path.
///
/// Callgrind writes what it has counted, of all threads, when one of these functions is called, and
/// then counts from zero: so what is written at [`ENDS`] is what that path has taken.
pub(crate) fn count() -> anyhow::Result<BTreeMap<String, u64>> {
    let folder = tempfile::tempdir().context("making a folder for callgrind")?;
    let out = folder.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--dump-line=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args([BEGINS, ENDS].map(|name| format!("--dump-before=*{name}*")))
        .arg(env::current_exe().context("finding this program")?)
        .arg("run")
        .output()
        .context("running valgrind")?;
    if !run.status.success() {
        bail!(
            "the paths failed under callgrind ({}): {}",
            run.status,
            String::from_utf8_lossy(&run.stderr)
        );
    }
    let paths = String::from_utf8(run.stdout).context("reading what was run")?;
    let paths: Vec<(&str, u64)> = paths.lines().filter_map(path).collect();
    let totals = totals(folder.path())?;
    if paths.is_empty() || paths.len() != totals.len() {
        bail!(
            "{} paths were run and {} counted",
            paths.len(),
            totals.len()
        );
    }
    let counts = paths.into_iter().zip(totals);
    Ok(counts
        .map(|((name, rounds), total)| (name.to_owned(), total / rounds))
        .collect())
}

/// A line that the paths say: name and rounds.
fn path(line: &str) -> Option<(&str, u64)> {
    let (name, rounds) = line.split_once('\t')?;
    Some((name, rounds.parse().ok().filter(|rounds| *rounds > 0)?))
}

/// What was counted when each path ended, in the order in which they were run.
fn totals(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let mut all = BTreeMap::new();
    for file in fs::read_dir(folder).context("reading callgrind's folder")? {
        let file = file?.path();
        let number = file.extension().and_then(|number| number.to_str());
        let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let ends = |line: &str| line.starts_with("desc: Trigger: ") && line.contains(ENDS);
        if text.lines().any(ends) {
            let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
            let total = total.and_then(|total| total.trim().parse().ok());
            all.insert(number, total.context("finding what was counted")?);
        }
    }
    Ok(all.into_values().collect())
}
