//! `imgsys-bench`: measures the system, beside its peer and the machine's limits.

use clap::Parser;
use imgsys_bench::{Cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(&Cli::parse())
}
