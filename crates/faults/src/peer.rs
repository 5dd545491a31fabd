//! The Python system that imgsys is compared with, broken in the same way: bench/peer.

use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// How it is run.
#[derive(Debug)]
pub struct Peer {
    program: PathBuf,
    cases: Vec<String>,
}

#[derive(Deserialize)]
struct Outcome {
    lost: u64,
}

impl Peer {
    /// Makes it ready; `None` if that can't be done, and its program has said why.
    #[must_use]
    pub fn find(program: &Path) -> Option<Self> {
        let listed = output(Command::new(program))?;
        Some(Self {
            program: program.to_owned(),
            cases: listed.lines().map(str::to_owned).collect(),
        })
    }

    /// What it lost in this case; `None` if it can't do it.
    #[must_use]
    pub fn lost(&self, case: &str) -> Option<u64> {
        if !self.cases.iter().any(|known| known == case) {
            return None;
        }
        let mut command = Command::new(&self.program);
        command.arg(case);
        let said = output(command)?;
        let last = said.lines().last()?;
        match serde_json::from_str::<Outcome>(last) {
            Ok(outcome) => Some(outcome.lost),
            Err(problem) => {
                eprintln!("imgsys-faults: the peer said {last:?}: {problem}");
                None
            }
        }
    }
}

/// What it prints, if it ends well; otherwise it is told why not.
fn output(mut command: Command) -> Option<String> {
    // Its own words go to standard error.
    match command.stderr(std::process::Stdio::inherit()).output() {
        Ok(done) if done.status.success() => String::from_utf8(done.stdout).ok(),
        // 77: it has said why it is not there.
        Ok(done) if done.status.code() == Some(77) => None,
        Ok(done) => {
            eprintln!("imgsys-faults: {command:?}: {}", done.status);
            None
        }
        Err(problem) => {
            eprintln!("imgsys-faults: {command:?}: {problem}");
            None
        }
    }
}
