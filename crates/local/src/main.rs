//! `imgsys-local`: the whole system on one machine.

use clap::Parser;
use imgsys_local::cli::{Cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(&Cli::parse())
}
