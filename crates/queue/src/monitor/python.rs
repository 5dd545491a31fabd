//! Values as Python's `repr` writes them: for people who look at tasks in Flower.

use serde_json::Value;
use std::fmt::{self, Write};

/// The longest text made here, in characters: Python's limit.
pub(crate) const MAX: usize = 1024;

/// A string as Python writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repr<'a>(pub(crate) &'a str);

impl fmt::Display for Repr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = *self;
        let plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'"' | b'\\');
        if text.bytes().all(plain) {
            f.write_str("'")?;
            f.write_str(text)?;
            return f.write_str("'");
        }
        let quote = if text.contains('\'') && !text.contains('"') {
            '"'
        } else {
            '\''
        };
        f.write_char(quote)?;
        for c in text.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c == quote => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char(quote)
    }
}

/// A string.
pub(crate) fn string(text: &str) -> String {
    Repr(text).to_string()
}

/// A value, at most [`MAX`] characters of it.
pub(crate) fn value(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value);
    cut(out)
}

/// Values as a tuple, at most [`MAX`] characters of it.
pub(crate) fn tuple(values: &[Value]) -> String {
    let mut out = String::from("(");
    put_all(&mut out, values);
    out.push_str(if values.len() == 1 { ",)" } else { ")" });
    cut(out)
}

/// The text, or as much of it as may be shown.
pub(crate) fn cut(text: String) -> String {
    if text.len() <= MAX || text.chars().count() <= MAX {
        return text;
    }
    let mut short: String = text.chars().take(MAX - 3).collect();
    short.push_str("...");
    short
}

fn put(out: &mut String, value: &Value) {
    // What is longer will be cut off.
    if out.len() > 4 * MAX {
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => out.push_str(&string(text)),
        Value::Array(items) => {
            out.push('[');
            put_all(out, items);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                separate(out, index);
                out.push_str(&string(name));
                out.push_str(": ");
                put(out, member);
            }
            out.push('}');
        }
    }
}

fn put_all(out: &mut String, values: &[Value]) {
    for (index, value) in values.iter().enumerate() {
        separate(out, index);
        put(out, value);
    }
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push_str(", ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_written_as_python_does() {
        assert_eq!(string("cat.jpg"), "'cat.jpg'");
        assert_eq!(string("it's"), "\"it's\"");
        assert_eq!(string("a'b\"c"), "'a\\'b\"c'");
        assert_eq!(string("a\\\n\u{1}é"), "'a\\\\\\n\\x01é'");
    }

    #[test]
    fn values_are_written_as_python_does() {
        let example = json!({"a": [1, 2.5, null], "b": {"c": true}});
        assert_eq!(value(&example), "{'a': [1, 2.5, None], 'b': {'c': True}}");
        assert_eq!(tuple(&[]), "()");
        assert_eq!(tuple(&[json!(1)]), "(1,)");
        assert_eq!(tuple(&[json!(1), json!("x")]), "(1, 'x')");
        let long = value(&json!(vec!["é"; 10_000]));
        assert_eq!(long.chars().count(), MAX);
        assert!(long.ends_with("..."));
    }
}
