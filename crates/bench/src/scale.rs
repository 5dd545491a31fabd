//! How imgsys grows past one machine, on paper: from what an image was measured to cost, how many of
//! each part a rate of images needs, which is full first, and how long an answer takes then.
//!
//! | module | holds |
//! |---|---|
//! | `costs` | what an image costs, taken from a report |
//! | `plan` | what each part can do, and how many of it there have to be |
//! | `queueing` | images in line for servers, Redis and workers: a simulation |
//! | `tables` | all that as docs/scaling.md has it |

mod costs;
mod plan;
mod queueing;
mod tables;

use crate::{document, report::Report};
use clap::Args;
use costs::Costs;
use plan::{Demand, Machine};
use std::path::PathBuf;

/// What `imgsys-bench scale` is told.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// What an image costs
    #[arg(long, value_name = "FILE", default_value = "bench/costs.json")]
    costs: PathBuf,
    /// Take the costs from the report in this folder, and write them into that file
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write the tables into this document
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Plan for so many images a second alone
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of an image
    #[arg(long, default_value_t = 100_000.0, requires = "rate")]
    bytes: f64,
    /// Milliseconds of a core that an analysis takes
    #[arg(long, default_value_t = 25.0, requires = "rate")]
    analysis_ms: f64,
    /// Cores of a machine, as fast as those on which was measured
    #[arg(long, default_value_t = 16)]
    cores: usize,
    /// Gigabits a second of its network, each way
    #[arg(long, default_value_t = 10.0)]
    network: f64,
    /// Megabytes a second that its disk can write
    #[arg(long, default_value_t = 1000.0)]
    disk: f64,
    /// How full each part may be, in percent
    #[arg(long, default_value_t = 70.0)]
    load: f64,
}

impl Scale {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut costs = Costs::read(&self.costs)?;
        if let Some(folder) = &self.report {
            costs.take(&Report::earlier(folder))?;
            costs.write(&self.costs)?;
        }
        let machine = self.machine();
        if let Some(rate) = self.rate {
            let demand = Demand {
                rate,
                bytes: self.bytes,
                analysis_us: self.analysis_ms * 1e3,
            };
            print!("{}", tables::plans(&costs, &machine, &[demand]));
            return Ok(());
        }
        let tables = tables::all(&costs, &machine);
        match &self.document {
            None => print!("{tables}"),
            Some(file) => document::update(file, "scale", &tables)?,
        }
        Ok(())
    }

    fn machine(&self) -> Machine {
        Machine {
            cores: self.cores.max(1),
            network: self.network * 1e9 / 8.0,
            disk: self.disk * 1e6,
            load: self.load / 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        scale: Scale,
    }

    #[test]
    fn the_document_has_what_the_costs_come_to() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let costs = Costs::read(&root.join("bench/costs.json")).unwrap();
        let document = document::read(&root.join("docs/scaling.md")).unwrap();
        let Defaults { scale } = Defaults::parse_from(["scale"]);
        let tables = tables::all(&costs, &scale.machine());
        let expected = document::with(&document, "scale", &tables).unwrap();
        assert_eq!(
            document, expected,
            "make scaling writes docs/scaling.md anew"
        );
    }
}
