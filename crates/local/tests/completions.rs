//! Shell completions and man pages, as packages ship them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/cli-docs.rs"]
mod cli_docs;

use std::{fs, process::Command};

#[test]
fn make_install_puts_them_where_shells_and_man_look() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    cli_docs::write(&docs).unwrap();
    let mut command = Command::new("make");
    command.arg("--silent").arg("--assume-old").arg(&docs);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    command.arg(format!("DESTDIR={}", dir.path().join("root").display()));
    command.arg(format!("CLI_DOCS={}", docs.display()));
    let made = command.args(["PREFIX=/usr", "install-cli-docs"]).output();
    let made = made.unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for file in [
        "bash-completion/completions/imgsys-server",
        "zsh/site-functions/_imgsys",
        "fish/vendor_completions.d/imgsys-worker.fish",
        "man/man1/imgsys-send.1",
        "man/man1/imgsys-persister.1",
    ] {
        assert!(
            dir.path().join("root/usr/share").join(file).exists(),
            "{file}"
        );
    }
}

#[test]
fn every_program_has_completions_and_man_pages() {
    let dir = tempfile::tempdir().unwrap();
    cli_docs::write(dir.path()).unwrap();
    let read = |file: String| fs::read_to_string(dir.path().join(&file)).expect(&file);
    for mut command in cli_docs::commands() {
        command.build();
        let name = command.get_name();
        let bash = dir.path().join("bash").join(name);
        let parsed = Command::new("bash").arg("-n").arg(&bash).status().unwrap();
        assert!(parsed.success(), "{}", bash.display());
        let texts = [
            read(format!("bash/{name}")),
            read(format!("zsh/_{name}")),
            read(format!("fish/{name}.fish")),
            read(format!("man/{name}.1")),
        ];
        assert!(texts[3].contains(".TH"), "{name}.1 has a title");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long() else { continue };
            for text in &texts {
                // roff writes a hyphen with a backslash.
                let plain = text.replace("\\-", "-");
                assert!(plain.contains(long), "--{long} of {name}");
            }
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let sub = sub.get_name();
            let pages = fs::read_dir(dir.path().join("man")).unwrap();
            let page = format!("{name}-{sub}.1");
            let mut names = pages.map(|page| page.unwrap().file_name());
            assert!(sub == "help" || names.any(|name| name == *page), "{page}");
        }
    }
}
