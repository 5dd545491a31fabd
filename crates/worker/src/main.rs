//! `imgsys-worker`: see the library.

use imgsys_worker::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // One thread carries tasks to and fro; the analyses have a pool of their own.
    imgsys_service::run::<Cli, _>(1, Cli::run)
}
