//! What came out: rows that are held against what is demanded, and the runs behind them.

mod text;

pub(crate) use text::{markdown, number, table};

use crate::{limits::Limit, stats::median};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// A row of the table that users choose by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) name: String,
    /// Of what kind `ours` and `peer` are.
    pub(crate) unit: String,
    /// What it is here.
    pub(crate) ours: f64,
    /// What it is with the peer, if it was there and does such a thing.
    pub(crate) peer: Option<f64>,
    /// So many times better than the peer, than our own other figure, or than the bound that the name
    /// tells.
    pub(crate) ratio: Option<f64>,
    /// What the ratio has to be at least.
    pub(crate) least: f64,
    /// Whether it is; null if there is no ratio.
    pub(crate) holds: Option<bool>,
    /// The loads from whose runs it comes, each on one system.
    #[serde(default)]
    pub(crate) loads: Vec<(String, String)>,
}

impl Row {
    /// Compared with the peer, where more is better.
    #[must_use]
    pub(crate) fn more(name: &str, unit: &str, ours: f64, peer: Option<f64>, least: f64) -> Self {
        let ratio = peer.map(|peer| ours / peer);
        Self::new(name, unit, (ours, peer, ratio), least)
    }

    /// Compared with the peer, where less is better.
    #[must_use]
    pub(crate) fn less(name: &str, unit: &str, ours: f64, peer: Option<f64>, least: f64) -> Self {
        let ratio = peer.map(|peer| peer / ours);
        Self::new(name, unit, (ours, peer, ratio), least)
    }

    /// Compared with our own figure, where more is better.
    #[must_use]
    pub(crate) fn against(name: &str, unit: &str, ours: f64, base: f64, least: f64) -> Self {
        Self::new(name, unit, (ours, None, Some(ours / base)), least)
    }

    /// May be so much at most.
    #[must_use]
    pub(crate) fn at_most(name: &str, unit: &str, ours: f64, bound: f64) -> Self {
        Self::new(name, unit, (ours, None, Some(bound / ours)), 1.0)
    }

    /// Must be so much at least.
    #[must_use]
    pub(crate) fn at_least(name: &str, unit: &str, ours: f64, bound: f64) -> Self {
        Self::new(name, unit, (ours, None, Some(ours / bound)), 1.0)
    }

    fn new(
        name: &str,
        unit: &str,
        (ours, peer, ratio): (f64, Option<f64>, Option<f64>),
        least: f64,
    ) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            ours,
            peer,
            ratio,
            least,
            holds: ratio.map(|ratio| ratio >= least),
            loads: Vec::new(),
        }
    }

    /// It comes from runs of this load on this system, too.
    #[must_use]
    pub(crate) fn by(mut self, cell: &str, system: &str) -> Self {
        self.loads.push((cell.into(), system.into()));
        self
    }
}

/// A row with the runs that it comes from.
#[derive(Debug, Serialize)]
struct Backed<'a> {
    #[serde(flatten)]
    row: &'a Row,
    runs: Vec<&'a Run>,
}

/// One load on one system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Which load.
    pub(crate) cell: String,
    /// Which system.
    pub(crate) system: String,
    /// The first repetition is 1.
    pub(crate) repetition: usize,
    /// Images whose result came.
    pub(crate) images: u64,
    /// Images a second.
    pub(crate) images_per_s: f64,
    /// Milliseconds from submit to result.
    pub(crate) p50_ms: f64,
    /// The same for 95 in a hundred.
    pub(crate) p95_ms: f64,
    /// The same for 99 in a hundred.
    pub(crate) p99_ms: f64,
    /// Microseconds of processor time an image, by part, until all was in the database.
    pub(crate) cpu_us: BTreeMap<String, f64>,
    /// All parts together.
    pub(crate) cpu_us_all: f64,
    /// What the load itself took, an image.
    pub(crate) load_cpu_us: f64,
    /// Seconds from the last result until all was in the database.
    pub(crate) drain_s: f64,
    /// Cores that others on this machine took meanwhile.
    pub(crate) others_cores: f64,
}

/// Another figure of a system or of the machine, in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// The group of rows to which it belongs.
    pub(crate) group: String,
    /// All of it.
    pub(crate) text: String,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// On what it was measured.
    pub(crate) machine: String,
    /// The rows.
    pub(crate) rows: Vec<Row>,
    /// The loads.
    pub(crate) runs: Vec<Run>,
    /// What the machine can do.
    pub(crate) limits: Vec<Limit>,
    /// What else was seen.
    pub(crate) facts: Vec<Fact>,
}

/// The whole report, from which the others are made.
const RAW: &str = "raw.json";

impl Report {
    /// The report of an earlier run in this folder, or an empty one.
    #[must_use]
    pub(crate) fn earlier(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(RAW)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Puts a row in, in place of an earlier one of that name.
    pub(crate) fn put(&mut self, row: Row) {
        match self.rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) => *known = row,
            None => self.rows.push(row),
        }
    }

    /// The runs of this load on this system.
    pub(crate) fn runs(&self, cell: &str, system: &str) -> impl Iterator<Item = &Run> {
        let runs = self.runs.iter();
        runs.filter(move |run| run.cell == cell && run.system == system)
    }

    /// The median of a figure of these runs, if there are any.
    #[must_use]
    pub(crate) fn median(
        &self,
        cell: &str,
        system: &str,
        figure: impl Fn(&Run) -> f64,
    ) -> Option<f64> {
        median(self.runs(cell, system).map(figure))
    }

    /// The rows with their runs.
    fn backed(&self) -> Vec<Backed<'_>> {
        let runs = |row: &Row| {
            let loads = row.loads.iter();
            loads
                .flat_map(|(cell, system)| self.runs(cell, system).collect::<Vec<_>>())
                .collect()
        };
        let rows = self.rows.iter();
        rows.map(|row| Backed {
            row,
            runs: runs(row),
        })
        .collect()
    }

    /// Writes `report.md`, `report.json` with each row and its runs, and all of it.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
        };
        write(RAW, serde_json::to_string_pretty(self)? + "\n")?;
        write(
            "report.json",
            serde_json::to_string_pretty(&self.backed())? + "\n",
        )?;
        write("report.md", markdown(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_many_times_better_it_is() {
        let row = Row::less("CPU", "ms", 2.0, Some(30.0), 12.0);
        assert_eq!((row.ratio, row.holds), (Some(15.0), Some(true)));
        let row = Row::more("images/s", "1/s", 20.0, Some(10.0), 12.0);
        assert_eq!((row.ratio, row.holds), (Some(2.0), Some(false)));
        assert_eq!(Row::at_most("memory", "MB", 2.0, 1.0).holds, Some(false));
        assert_eq!(Row::more("alone", "1/s", 20.0, None, 12.0).holds, None);
    }

    #[test]
    fn the_written_rows_have_what_they_promise_and_their_runs() {
        let run = |cell: &str, system: &str| Run {
            cell: cell.into(),
            system: system.into(),
            repetition: 1,
            images: 100,
            images_per_s: 10.0,
            p50_ms: 1.0,
            p95_ms: 1.0,
            p99_ms: 1.0,
            cpu_us: BTreeMap::new(),
            cpu_us_all: 1.0,
            load_cpu_us: 1.0,
            drain_s: 0.0,
            others_cores: 0.0,
        };
        let mut report = Report {
            runs: vec![
                run("small", "ours"),
                run("small", "peer"),
                run("large", "ours"),
            ],
            ..Report::default()
        };
        let row = Row::more("images/s", "1/s", 20.0, Some(10.0), 2.0);
        report.put(row.by("small", "ours").by("small", "peer"));
        let folder = tempfile::tempdir().unwrap();
        report.write(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("report.json")).unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(
            (&row["name"], &row["ours"], &row["peer"], &row["ratio"]),
            (&"images/s".into(), &20.0.into(), &10.0.into(), &2.0.into())
        );
        assert_eq!((&row["least"], &row["holds"]), (&2.0.into(), &true.into()));
        let systems = row["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| &run["system"]);
        assert_eq!(systems.collect::<Vec<_>>(), ["ours", "peer"]);
    }

    #[test]
    fn a_row_takes_the_place_of_the_earlier_one() {
        let mut report = Report::default();
        for ours in [1.0, 2.0] {
            report.put(Row::at_most("memory", "MB", ours, 3.0));
        }
        assert_eq!(report.rows.len(), 1);
        assert_eq!(report.rows[0].ratio, Some(1.5));
    }
}
