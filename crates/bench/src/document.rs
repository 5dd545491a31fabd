//! The parts of documents that this program writes: those between two marks.

use anyhow::Context;
use std::{fs, path::Path};

const END: &str = "<!-- and this is where it ends -->";

/// Puts what a command writes into its place in a document.
pub(crate) fn update(file: &Path, command: &str, text: &str) -> anyhow::Result<()> {
    let before = read(file)?;
    let after = with(&before, command, text)
        .with_context(|| format!("finding the place of {command} in {}", file.display()))?;
    fs::write(file, after).with_context(|| format!("writing {}", file.display()))
}

/// The document, in which this is what the command has written.
pub(crate) fn with(document: &str, command: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- imgsys-bench {command} writes what follows -->\n");
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{text}\n{END}{after}"))
}

/// The whole document.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_of_this_command_changes() {
        let of = |one: &str, other: &str| {
            let place = |command: &str, text: &str| {
                format!("<!-- imgsys-bench {command} writes what follows -->\n\n{text}\n{END}\n")
            };
            format!(
                "# Title\n{}between\n{}after\n",
                place("one", one),
                place("other", other)
            )
        };
        let document = of("old", "stays");
        assert_eq!(with(&document, "one", "new"), Some(of("new", "stays")));
        assert_eq!(with(&document, "none", "new"), None);
    }
}
