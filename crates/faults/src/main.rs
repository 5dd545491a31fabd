//! `imgsys-faults`: breaks the system, and looks whether anything was lost.

use clap::Parser;
use imgsys_faults::{
    alone,
    cli::{Cli, run},
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    alone::enter();
    run(&cli)
}
