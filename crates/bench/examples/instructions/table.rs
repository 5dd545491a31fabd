//! The file that keeps the counts: a line for each path, in the order of their names.

use anyhow::Context;
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

const TOOLS: &str = "# tools: ";

/// Counts, and what they were made with.
#[derive(Debug)]
pub(crate) struct Table {
    /// Compiler, libc, valgrind, processor.
    pub(crate) tools: String,
    /// Instructions of a round of each path.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// What a comparison comes to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// A line for each path.
    pub(crate) text: String,
    /// What takes more than it did, or is not there on one side.
    pub(crate) worse: Vec<String>,
    /// What takes less.
    pub(crate) better: Vec<String>,
}

impl Table {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let tools = text.lines().find_map(|line| line.strip_prefix(TOOLS));
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let count = line.split_once('\t');
            let (name, count) = count.with_context(|| format!("reading the line {line:?}"))?;
            let count = count
                .parse()
                .with_context(|| format!("reading the count of {name}"))?;
            counts.insert(name.to_owned(), count);
        }
        Ok(Self {
            tools: tools.unwrap_or_default().to_owned(),
            counts,
        })
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = String::from("# Instructions of each hot path: make instructions-update\n");
        let _ = writeln!(text, "{TOOLS}{}", self.tools);
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name}\t{count}");
        }
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Holds this against an earlier one; off by more than `tolerance` percent is worse or better.
    pub(crate) fn compare(&self, known: &Self, tolerance: f64) -> Verdict {
        let mut verdict = Verdict {
            text: String::new(),
            worse: Vec::new(),
            better: Vec::new(),
        };
        let names = self.counts.keys().chain(known.counts.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let shown = |count: Option<&u64>| count.map_or("–".into(), u64::to_string);
        for name in names {
            let (now, then) = (self.counts.get(name), known.counts.get(name));
            let change = now.zip(then).map(|(&now, &then)| change(now, then));
            match change {
                Some(change) if change < -tolerance => verdict.better.push(name.clone()),
                Some(change) if change <= tolerance => {}
                _ => verdict.worse.push(name.clone()),
            }
            let change = change.map_or("new or gone".into(), |change| format!("{change:+.1} %"));
            let (now, then) = (shown(now), shown(then));
            let _ = writeln!(verdict.text, "{name:<32} {now:>9}, was {then:>9}: {change}");
        }
        verdict
    }
}

/// By how many percent it has grown.
#[expect(clippy::cast_precision_loss)]
fn change(now: u64, then: u64) -> f64 {
    (now as f64 / then as f64 - 1.0) * 100.0
}
