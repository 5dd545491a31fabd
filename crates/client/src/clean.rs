//! Other people's text, made harmless.
//!
//! A file's name, a label or a server's error text may carry escape sequences that move the cursor,
//! or marks that turn the writing direction around. Nothing of that kind reaches a terminal.

use std::{borrow::Cow, fmt::Write as _};

/// What stands in for a character that is not printed.
const STAND_IN: char = '\u{fffd}';

/// The longest file name that is made, in bytes; Linux allows 255.
const MAX_FILE_NAME: usize = 200;

/// Whether a character can do more than take its place in a line of text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of writing direction.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Separators that some programs take for the end of a line.
            | '\u{2028}' | '\u{2029}'
            // Invisible: two names that look the same would differ.
            | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every character that could do harm on a terminal replaced by U+FFFD.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_harmful) {
        Cow::Owned(text.replace(is_harmful, STAND_IN.encode_utf8(&mut [0; 4])))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text with every such character written as an escape, so that nothing of a name is lost.
///
/// Such characters can only stand within JSON's strings, so replacing them keeps the value.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_harmful) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A name for a new file in the present directory, made of the last part of somebody else's name:
/// never hidden, never another directory's, never too long. `fallback` if nothing is left of it.
pub(crate) fn file_name(name: &str, fallback: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = base.replace(is_harmful, "_");
    let safe = safe.trim().trim_start_matches(['.', '-']);
    if safe.is_empty() {
        return fallback.to_owned();
    }
    if safe.len() <= MAX_FILE_NAME {
        return safe.to_owned();
    }
    // The end says what kind of file it is.
    let (stem, extension) = match safe.rfind('.') {
        Some(dot) if safe.len() - dot <= 16 => safe.split_at(dot),
        _ => (safe, ""),
    };
    let mut end = MAX_FILE_NAME - extension.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        for text in ["cat.jpg", "Größe 5 €.png", "猫.webp", "🐈‍⬛.gif", "עברית.jpg"]
        {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn escapes_and_overrides_do_not() {
        assert_eq!(clean("a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(
            clean("a\nb\rc\td\x07\x7f"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}"
        );
        assert_eq!(clean("\u{9b}31m"), "\u{fffd}31m");
        assert_eq!(clean("gpj.\u{202e}exe"), "gpj.\u{fffd}exe");
        assert_eq!(
            clean("a\u{2067}b\u{2028}c\u{feff}"),
            "a\u{fffd}b\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn json_keeps_the_value() {
        let name = "a\u{202e}b\u{9b}\u{e0041}\x7f";
        let json = serde_json::to_string(name).unwrap();
        let escaped = escape_json(&json);
        assert_eq!(escaped, r#""a\u202eb\u009b\udb40\udc41\u007f""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), name);
    }

    #[test]
    fn file_names_stay_in_their_directory() {
        for (name, file) in [
            ("photos/cat.jpg", "cat.jpg"),
            ("..\\..\\cat.jpg", "cat.jpg"),
            ("../../etc/passwd", "passwd"),
            ("..", "fallback"),
            ("photos/", "fallback"),
            ("", "fallback"),
            (".bashrc", "bashrc"),
            ("-rf.jpg", "rf.jpg"),
            ("a\x1bb.png", "a_b.png"),
        ] {
            assert_eq!(file_name(name, "fallback"), file, "{name:?}");
        }
        let long = file_name(&format!("{}.jpeg", "ü".repeat(400)), "fallback");
        assert!(
            long.len() <= MAX_FILE_NAME && long.ends_with("ü.jpeg"),
            "{long}"
        );
    }
}
