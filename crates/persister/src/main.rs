//! `imgsys-persister`: see `imgsys-persister --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    imgsys_service::run(1, imgsys_persister::cli::start)
}
