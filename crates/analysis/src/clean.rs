//! Other people's texts, made harmless before they go anywhere.

use imgsys_types::bounds::MAX_TEXT;

/// The text without what would move a terminal's cursor, turn the direction of writing, or not
/// show at all, with single spaces, and no longer than results may carry. What a web page must
/// escape is left in: it is a text, not HTML.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word: String = word.chars().filter(|&c| !is_unseen(c)).collect();
        if word.is_empty() {
            continue;
        }
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(&word);
    }
    let end = (0..=MAX_TEXT)
        .rev()
        .find(|&end| clean.is_char_boundary(end));
    clean.truncate(end.unwrap_or(0));
    clean
}

/// Characters of format (Unicode's category Cf), such as the right-to-left override, and those
/// that stand for none.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_be_seen_goes() {
        for (text, expected) in [
            ("NIKON CORPORATION  ", "NIKON CORPORATION"),
            ("a\x1b[31mb\n\tc\0", "a [31mb c"),
            ("gpj.\u{202e}exe", "gpj.exe"),
            ("\u{feff}\u{200b}", ""),
            ("Grüße, 世界", "Grüße, 世界"),
            ("<script>", "<script>"),
        ] {
            assert_eq!(clean(text), expected);
        }
        let long = clean(&"é".repeat(500));
        assert_eq!(long, "é".repeat(MAX_TEXT / 2));
    }
}
