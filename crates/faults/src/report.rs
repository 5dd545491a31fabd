//! What came out: a table for people, a file for programs.

use serde::Serialize;
use std::{fs, io, path::Path};

/// What became of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub case: String,
    /// Jobs that clients sent.
    pub sent: u64,
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Jobs whose result was told to a client.
    pub answered: u64,
    /// Rows of the history with a result.
    pub rows: u64,
    /// Accepted jobs without such a row, or without their image.
    pub lost: u64,
    /// Jobs that are in the history more than once.
    pub doubled: u64,
    /// Answers that are not what is in the history, or not true.
    pub wrong: u64,
    /// Clients that waited for an answer in vain.
    pub hung: u64,
    /// Jobs that more than one worker took up.
    pub rerun: u64,
    /// Seconds until all went on, from when it could; null where nothing had stopped.
    pub recovery_s: Option<f64>,
    /// Jobs that the Python system lost in the same case; null where it was not run.
    pub peer_lost: Option<u64>,
    /// All that was wrong, in words.
    #[serde(skip)]
    pub failures: Vec<String>,
    /// Why the case was not run.
    #[serde(skip)]
    pub skipped: Option<String>,
}

impl Report {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(case: &str) -> Self {
        Self {
            case: case.to_owned(),
            sent: 0,
            accepted: 0,
            answered: 0,
            rows: 0,
            lost: 0,
            doubled: 0,
            wrong: 0,
            hung: 0,
            rerun: 0,
            recovery_s: None,
            peer_lost: None,
            failures: Vec::new(),
            skipped: None,
        }
    }

    /// Whether all was as it must be; a case that was skipped has not failed.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let bad = self.lost + self.doubled + self.wrong + self.hung;
        bad == 0 && self.failures.is_empty()
    }

    /// The case as a row below [`HEADER`].
    #[must_use]
    pub fn row(&self) -> String {
        if let Some(why) = &self.skipped {
            return format!("{:<29} skipped: {why}", self.case);
        }
        let seconds = self.recovery_s.map_or("-".into(), |s| format!("{s:.2}"));
        let peer = self.peer_lost.map_or("-".into(), |lost| lost.to_string());
        let verdict = if self.is_well() { "" } else { "  FAILED" };
        format!(
            "{:<29}{:>7}{:>9}{:>9}{:>7}{:>6}{:>8}{:>6}{:>5}{:>6}{:>9}{:>10}{verdict}",
            self.case,
            self.sent,
            self.accepted,
            self.answered,
            self.rows,
            self.lost,
            self.doubled,
            self.wrong,
            self.hung,
            self.rerun,
            seconds,
            peer
        )
    }
}

/// The names of the columns of [`Report::row`].
pub const HEADER: &str = "case                            sent accepted answered   rows  lost doubled wrong hung rerun recovery peer lost";

/// Writes the list of all cases that were run: one that was skipped has no figures.
pub fn write(file: &Path, reports: &[Report]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let run: Vec<_> = reports.iter().filter(|r| r.skipped.is_none()).collect();
    let mut text = serde_json::to_string_pretty(&run)?;
    text.push('\n');
    fs::write(file, text)
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_file_is_a_list_of_figures() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        let mut skipped = Report::new("skipped");
        skipped.skipped = Some("no loop devices".into());
        write(&file, &[Report::new("one"), skipped]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let list: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&text).unwrap();
        assert_eq!(list.len(), 1);
        let mut names: Vec<_> = list[0].keys().map(String::as_str).collect();
        let mut expected = [
            "case",
            "sent",
            "accepted",
            "answered",
            "rows",
            "lost",
            "doubled",
            "wrong",
            "hung",
            "rerun",
            "recovery_s",
            "peer_lost",
        ];
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
