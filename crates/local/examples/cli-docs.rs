//! Writes shell completions and man pages of all programs, made from their command lines, into a
//! directory: `cargo run -p imgsys-local --example cli-docs -- DIR`. `make completions` does it, and
//! packages ship what it writes.
//!
//! ```text
//! DIR/bash/imgsys   DIR/zsh/_imgsys   DIR/fish/imgsys.fish   DIR/man/imgsys.1 …
//! ```

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use std::{env, fs, path::Path};

fn main() -> anyhow::Result<()> {
    let dir = env::args_os().nth(1).context("name a directory")?;
    write(Path::new(&dir))
}

/// All programs.
pub(crate) fn commands() -> [Command; 5] {
    [
        imgsys_client::command(),
        imgsys_service::load::command::<imgsys_server::cli::Cli>(),
        imgsys_service::load::command::<imgsys_worker::cli::Cli>(),
        imgsys_service::load::command::<imgsys_persister::cli::Cli>(),
        imgsys_local::cli::Cli::command(),
    ]
}

/// Writes everything below this directory.
pub(crate) fn write(dir: &Path) -> anyhow::Result<()> {
    let folder = |name: &str| {
        let path = dir.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        anyhow::Ok(path)
    };
    let shells = [
        (Shell::Bash, folder("bash")?),
        (Shell::Zsh, folder("zsh")?),
        (Shell::Fish, folder("fish")?),
    ];
    let man = folder("man")?;
    for mut command in commands() {
        let name = command.get_name().to_owned();
        for (shell, folder) in &shells {
            let written = generate_to(*shell, &mut command, &name, folder);
            let written = written.with_context(|| format!("writing {shell}'s for {name}"))?;
            if *shell == Shell::Bash {
                // Where bash looks, a file is called as the program is.
                fs::rename(&written, folder.join(&name)).context("naming bash's")?;
            }
        }
        clap_mangen::generate_to(command, &man).with_context(|| format!("writing {name}(1)"))?;
    }
    Ok(())
}
