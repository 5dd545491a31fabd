//! `imgsys-persister`: see `imgsys-persister --help`.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Of small and short-lived pieces there are many for each image.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    imgsys_service::run(1, imgsys_persister::cli::start)
}
