//! The program `imgsys`: see `imgsys --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    imgsys_client::run(std::env::args_os())
}
