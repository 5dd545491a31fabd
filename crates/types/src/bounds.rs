//! How long the texts of others may be.

/// A label, a name, a value of [`crate::Properties::extra`], in bytes of UTF-8.
pub const MAX_TEXT: usize = 128;
/// The detail of a failure, in bytes of UTF-8.
pub const MAX_DETAIL: usize = 1024;
/// Scores of an analysis.
pub const MAX_SCORES: usize = 100;
/// Values in [`crate::Properties::extra`].
pub const MAX_EXTRA: usize = 64;
/// Colours of an image.
pub const MAX_COLORS: usize = 16;
/// Flags of an image.
pub const MAX_FLAGS: usize = 32;

/// Cuts a text at a character so that it has at most `most` bytes, and takes U+0000 out of it, for
/// which PostgreSQL has no place.
pub(crate) fn bound_text(text: &mut String, most: usize) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > most {
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
}

/// Brings a percentage between 0 and 100; what is no number becomes 0.
pub(crate) fn bound_percent(percent: &mut f64) {
    *percent = if percent.is_nan() {
        0.0
    } else {
        percent.clamp(0.0, 100.0)
    };
}

/// Drops a number that is none: JSON and PostgreSQL have no place for it.
pub(crate) fn bound_number(number: &mut Option<f64>) {
    *number = number.filter(|number| number.is_finite());
}
