//! What docs/performance.md shows of a report: its table, and plots.
//!
//! | module | holds |
//! |---|---|
//! | `plots` | what is plotted |
//! | `chart` | bars and marks beside each other, along one axis |
//! | `svg` | pictures |

mod chart;
mod plots;
mod svg;

use crate::{
    document,
    report::{Report, table},
};
use anyhow::{Context, ensure};
use clap::Args;
use plots::Plot;
use std::{fmt::Write, fs, path::PathBuf};

/// What `imgsys-bench figures` is told.
#[derive(Debug, Args)]
pub(crate) struct Figures {
    /// The folder of the report
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    report: PathBuf,
    /// The folder of the plots
    #[arg(long, value_name = "DIR", default_value = "docs/plots")]
    plots: PathBuf,
    /// The document that shows them, and has the table; its folder is that of the plots' folder
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

impl Figures {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let report = Report::earlier(&self.report);
        let folder = self.report.display();
        ensure!(!report.rows.is_empty(), "there is no report in {folder}");
        let plots = plots::all(&report);
        fs::create_dir_all(&self.plots)
            .with_context(|| format!("making {}", self.plots.display()))?;
        for plot in &plots {
            let file = self.plots.join(plot.file);
            fs::write(&file, &plot.picture)
                .with_context(|| format!("writing {}", file.display()))?;
        }
        let Some(document) = &self.document else {
            return Ok(());
        };
        let place = self.plots.file_name().unwrap_or_default();
        let text = section(&report, &plots, &place.to_string_lossy());
        document::update(document, "figures", &text)
    }
}

/// The part of the document.
fn section(report: &Report, plots: &[Plot], place: &str) -> String {
    let mut text = format!("Measured on: {}\n\n{}", report.machine, table(&report.rows));
    for plot in plots {
        let _ = writeln!(text, "\n![{}]({place}/{})", plot.about, plot.file);
    }
    text
}
