//! docs/configuration.md lists every key, with its default: it is made from the code and held to it.
//!
//! `UPDATE_DOCS=1 cargo test -p imgsys-service --test configuration` writes it anew.

use clap::{Args, Command};
use imgsys_service::Config;
use std::{fmt::Write, fs, path::Path};

const HEAD: &str = "# Configuration

All programs read one TOML file, `/etc/imgsys/imgsys.toml` unless `--config FILE` or `IMGSYS_CONFIG`
names another, each its own sections. A key that does not exist or a value of the wrong kind is
refused by every program, in whatever section it is, with exit code 2 and one line that names the
file, the key and what is allowed.

Each key is also a variable, `IMGSYS_<SECTION>_<KEY>`, and a flag of the programs that use it: `--key`
if the section is the program's own (`[limits]` is the server's), `--section-key` otherwise. A flag
goes before a variable, a variable before the file, the file before the default. `check-config` says
whether a program would take its configuration, `--print-config` shows what results, without passwords.

Times are written `500ms`, `30s`, `5m`, `1h`; sizes `512kB`, `64MiB` or a number of bytes. Secrets are
read from files and never printed.

```toml
[server]
listen = \"0.0.0.0:7450\"
image_url = \"http://images.example:7451/images/\"

[redis]
url = \"redis://queue.example:6379/0\"
password_file = \"/run/credentials/redis\"

[worker]
image_sources = [\"http://images.example:7451/images/\"]
```
";

fn document() -> String {
    let command = Config::augment_args(Command::new("all"));
    let mut text = HEAD.to_owned();
    let mut section = "";
    for arg in command.get_arguments() {
        let Some((of, key)) = arg.get_id().as_str().split_once('.') else {
            continue;
        };
        if of != section {
            section = of;
            let _ = write!(
                text,
                "\n## `[{section}]`\n\n| key | default | what it is |\n|---|---|---|\n"
            );
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = match defaults.join(",") {
            none if none.is_empty() => "–".to_owned(),
            some => format!("`{some}`"),
        };
        let values: Vec<_> = arg
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let choice = if values.is_empty() || !arg.get_action().takes_values() {
            String::new()
        } else {
            format!(" ({})", values.join(", "))
        };
        let help = help.replace('|', "\\|").replace('<', "&lt;");
        let _ = writeln!(text, "| `{key}` | {default} | {help}{choice} |");
    }
    text
}

#[test]
fn the_document_lists_every_key() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &document).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(
        written == document,
        "docs/configuration.md does not say what the code does: write it anew with UPDATE_DOCS=1"
    );
}
