//! How many instructions the hot paths take, counted by callgrind and held against what is written
//! down: times on a busy machine say little, instructions are the same each time.
//!
//! `instructions check FILE` counts and compares, `instructions update FILE` writes the file anew;
//! `instructions run` is what callgrind looks at.
//!
//! The counts are of one build (that of `make build`) on one set of tools. With another compiler,
//! libc or valgrind than the file was made with they are shown, but nothing fails.

mod callgrind;
mod paths;
mod table;

use anyhow::{Context, bail};
use std::{env, path::Path, process::ExitCode};
use table::{Table, Verdict};

/// What one may be off the other before it is told, in percent.
const TOLERANCE: f64 = 5.0;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run"] => paths::run(),
        ["check", file] => check(Path::new(file)),
        ["update", file] => update(Path::new(file)),
        _ => Err(anyhow::anyhow!("say run, check FILE or update FILE")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("instructions: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let Some(valgrind) = callgrind::version() else {
        println!("skipped: instruction counts, for valgrind is not installed");
        return Ok(());
    };
    let known = Table::read(file)?;
    let now = count(&valgrind)?;
    let verdict = now.compare(&known, TOLERANCE);
    print!("{}", verdict.text);
    if now.tools != known.tools {
        println!("not held against each other, for these were counted with other tools:");
        println!("    then: {}\n    now:  {}", known.tools, now.tools);
        return Ok(());
    }
    let Verdict { worse, better, .. } = verdict;
    if !better.is_empty() {
        println!(
            "better than what is written down: {}. make instructions-update writes it down",
            better.join(", ")
        );
    }
    if worse.is_empty() {
        return Ok(());
    }
    bail!(
        "more than {TOLERANCE} % more than in {}, or not there: {}. Where that is meant, make \
         instructions-update",
        file.display(),
        worse.join(", ")
    )
}

fn update(file: &Path) -> anyhow::Result<()> {
    let valgrind = callgrind::version().context("valgrind is not installed")?;
    let now = count(&valgrind)?;
    if let Ok(known) = Table::read(file) {
        print!("{}", now.compare(&known, TOLERANCE).text);
    }
    now.write(file)
}

fn count(valgrind: &str) -> anyhow::Result<Table> {
    Ok(Table {
        tools: callgrind::tools(valgrind)?,
        counts: callgrind::count()?,
    })
}
