//! `imgsys-server`: see the library.

use imgsys_server::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    imgsys_service::run::<Cli, _>(0, Cli::run)
}
