//! `imgsys-server`: see the library.

use imgsys_server::cli::Cli;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Of small and short-lived pieces there are many for each image.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    imgsys_service::run::<Cli, _>(0, Cli::run)
}
