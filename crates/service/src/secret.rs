//! Passwords: put into URLs when they are needed, and kept out of everything that is printed.
//!
//! Programs take care not to print them; [`Secrets`] is the net below that, through which every
//! line of the log and every error goes, whichever crate has written it.

use crate::{
    Config,
    config::{DatabaseConfig, RedisConfig},
};
use anyhow::Context;
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    path::Path,
};

/// What is printed in a password's place.
pub const MASK: &str = "***";

/// Shorter passwords are left out of [`Secrets`], for their letters stand in any text.
const MIN_LEN: usize = 4;

/// The passwords of a configuration, so that they can be struck out of texts.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// The passwords in this configuration's URLs and files. A file that can't be read has none;
    /// whoever needs it will say so.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut secrets = Self::default();
        for url in [&config.redis.url, &config.database.url] {
            let masked = mask_url(url);
            for password in passwords(url) {
                // One that is the name of the user too is no secret, and is in every line.
                if !masked.contains(password) {
                    secrets.add(password);
                }
            }
        }
        let files = [
            &config.redis.password_file,
            &config.database.password_file,
            &config.worker.images.token_file,
        ];
        for file in files.into_iter().flatten() {
            if let Ok(password) = read_secret(file) {
                secrets.add(&password);
            }
        }
        secrets
    }

    /// Adds a password in all the ways in which it may be written.
    fn add(&mut self, password: &str) {
        let plain = unpercent(password).unwrap_or_else(|| password.to_owned());
        let escaped = format!("{plain:?}");
        let json = serde_json::Value::from(plain.as_str()).to_string();
        let inner = |text: &str| text.trim_matches('"').to_owned();
        for form in [
            password.to_owned(),
            percent(&plain),
            inner(&escaped),
            inner(&json),
            plain,
        ] {
            if form.len() >= MIN_LEN && !self.0.contains(&form) {
                self.0.push(form);
            }
        }
        // The longer first: what contains another must go whole.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The text without any of the passwords.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), MASK));
            }
        }
        text
    }
}

impl Config {
    /// The configuration as it may be shown: without passwords.
    #[must_use]
    pub fn masked(mut self) -> Self {
        self.redis.url = mask_url(&self.redis.url);
        self.database.url = mask_url(&self.database.url);
        self
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &mask_url(&self.url))
            .field("password_file", &self.password_file)
            .field("key_prefix", &self.key_prefix)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &mask_url(&self.url))
            .field("password_file", &self.password_file)
            .field("pool", &self.pool)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// The URL with everything that the other keys say in it: a secret from here on.
    pub fn secret_url(&self) -> anyhow::Result<String> {
        let tls = &self.tls;
        let mut parameters = as_parameters([
            ("ca", tls.ca.as_deref()),
            ("certificate", tls.certificate.as_deref()),
            ("key", tls.key.as_deref()),
        ])?;
        let mut url = self.url.clone();
        if let Some(password) = given_secret(self.password_file.as_deref())? {
            if url.starts_with("unix:") || url.starts_with("redis+") {
                parameters.push(("pass", password));
            } else {
                url = with_password(&url, &password).with_context(|| {
                    let url = mask_url(&url);
                    format!("redis.url {url:?} has no scheme: write redis://…")
                })?;
            }
        }
        if !self.key_prefix.is_empty() {
            parameters.push(("key_prefix", self.key_prefix.clone()));
        }
        if let Some(prefix) = &self.result_key_prefix {
            parameters.push(("result_key_prefix", prefix.clone()));
        }
        Ok(with_parameters(url, &parameters))
    }
}

impl DatabaseConfig {
    /// The URL with everything that the other keys say in it: a secret from here on.
    pub fn secret_url(&self) -> anyhow::Result<String> {
        let tls = &self.tls;
        let mut parameters = as_parameters([
            ("sslrootcert", tls.ca.as_deref()),
            ("sslcert", tls.certificate.as_deref()),
            ("sslkey", tls.key.as_deref()),
        ])?;
        let mut url = self.url.clone();
        if let Some(password) = given_secret(self.password_file.as_deref())? {
            match with_password(&url, &password) {
                Some(with_it) => url = with_it,
                None => parameters.push(("password", password)),
            }
        }
        if url.contains("://") {
            return Ok(with_parameters(url, &parameters));
        }
        let mut pairs = url;
        for (name, value) in parameters {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            // Writing to a String can't fail.
            let _ = write!(pairs, " {name}='{quoted}'");
        }
        Ok(pairs)
    }
}

/// The names of the files that are given, each as the parameter of this name.
fn as_parameters<'a>(
    files: [(&'a str, Option<&Path>); 3],
) -> anyhow::Result<Vec<(&'a str, String)>> {
    let given = files
        .into_iter()
        .filter_map(|(name, file)| Some((name, file?)));
    let named = given.map(|(name, file)| {
        let text = file.to_str();
        let text = text.with_context(|| format!("{} is not UTF-8", file.display()))?;
        Ok((name, text.to_owned()))
    });
    named.collect()
}

fn with_parameters(mut url: String, parameters: &[(&str, String)]) -> String {
    for (name, value) in parameters {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(&percent(value));
    }
    url
}

/// The URL with this password; `None` if it has no scheme.
fn with_password(url: &str, password: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, place) = rest.split_once('@').unwrap_or(("", rest));
    let user = user.split(':').next().unwrap_or_default();
    let password = percent(password);
    Some(format!("{scheme}://{user}:{password}@{place}"))
}

/// What is in a file of a secret, if there is one.
fn given_secret(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    file.map(read_secret).transpose()
}

/// What is in a file of a password or token, without the end of its line.
pub fn read_secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading the secret in {}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A connection string with [`MASK`] for its passwords, however little sense it makes otherwise.
#[must_use]
pub fn mask_url(url: &str) -> String {
    let mut masked = String::with_capacity(url.len());
    let mut end = 0;
    for password in passwords(url) {
        let at = password.as_ptr() as usize - url.as_ptr() as usize;
        masked.push_str(&url[end..at]);
        masked.push_str(MASK);
        end = at + password.len();
    }
    masked.push_str(&url[end..]);
    masked
}

/// The passwords in a connection string, in order: slices of it.
fn passwords(url: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut tail = url;
    // Before the last @, for a password may hold one that should have been encoded.
    if let Some(at) = url.rfind('@') {
        // A scheme further on, in a parameter, is not this one's.
        let start = url[..at].find("://").map_or(0, |at| at + 3);
        if let Some(user) = url.get(start..at) {
            let colon = user.find(':').map_or(0, |colon| colon + 1);
            // Without a scheme, a user alone may be anything.
            if colon > 0 {
                found.push(&user[colon..]);
            }
            tail = &url[at..];
        }
    }
    while let Some(value) = next_pair(&mut tail) {
        found.push(value);
    }
    found.retain(|password| !password.is_empty());
    found
}

/// The value of the next `password=` (or the like) in what is left of a connection string.
fn next_pair<'a>(left: &mut &'a str) -> Option<&'a str> {
    const NAMES: [&str; 2] = ["pass", "password"];
    loop {
        let equals = left.find('=')?;
        let (before, after) = (&left[..equals], &left[equals + 1..]);
        let name = before.trim_end();
        let name = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
        let value = after.trim_start();
        let length = match value.strip_prefix('\'') {
            Some(quoted) => 2 + end_of_quoted(quoted),
            None => value.find(['&', ' ', '\t', '\n']).unwrap_or(value.len()),
        };
        let value = &value[..length.min(value.len())];
        *left = &after[after.len() - after.trim_start().len() + value.len()..];
        if name.is_some_and(|name| NAMES.iter().any(|known| name.ends_with(known))) {
            return Some(value.trim_matches('\''));
        }
    }
}

/// How long a quoted value is up to its closing quote.
fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '\'' if !escaped => return at,
            _ => escaped = character == '\\' && !escaped,
        }
    }
    text.len()
}

/// Percent-encodes all but the characters that RFC 3986 leaves unreserved.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text that was percent-encoded; `None` if it was not.
fn unpercent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let code = std::str::from_utf8(left.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        left = &left[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_shown_without_passwords() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:hunter2@h:1/0", "redis://:***@h:1/0"),
            ("rediss://me:hun:t@r2@h/0?x=1", "rediss://me:***@h/0?x=1"),
            ("unix:///r?db=1&pass=hunter2", "unix:///r?db=1&pass=***"),
            (
                "postgres://me:a%20b@/db?sslmode=x",
                "postgres://me:***@/db?sslmode=x",
            ),
            (
                "postgres://me@h/db?password=x%41&a=b",
                "postgres://me@h/db?password=***&a=b",
            ),
            (
                "host=/r user=me password=hunter2 dbname=x",
                "host=/r user=me password=*** dbname=x",
            ),
            (r"password = 'a \' b' user=me", "password = '***' user=me"),
            ("sslpassword='x", "sslpassword='***"),
            ("password=", "password="),
            ("me:hunter2@host", "me:***@host"),
            ("me:hunter2@h?x=file://y", "me:***@h?x=file://y"),
            ("", ""),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    #[test]
    fn keys_beside_a_url_are_put_into_it() {
        let config = crate::load::from_text(
            "[redis]
             url = 'unix:///run/redis?db=1'
             key_prefix = 'site:'
             tls.ca = '/a b'
             [database]
             url = 'host=h user=me'
             tls.ca = \"/it's\"
             tls.key = '/key'",
            Path::new("test"),
        );
        let Config {
            redis,
            mut database,
            ..
        } = config.unwrap();
        assert_eq!(
            redis.secret_url().unwrap(),
            "unix:///run/redis?db=1&ca=%2Fa%20b&key_prefix=site%3A"
        );
        assert_eq!(
            database.secret_url().unwrap(),
            r"host=h user=me sslrootcert='/it\'s' sslkey='/key'"
        );
        database.url = "postgres://me@h/db".into();
        assert_eq!(
            database.secret_url().unwrap(),
            "postgres://me@h/db?sslrootcert=%2Fit%27s&sslkey=%2Fkey"
        );
    }

    #[test]
    fn secrets_are_struck_out_however_they_are_written() {
        let mut secrets = Secrets::default();
        secrets.add("p%40ss\"w/rd");
        secrets.add("hunter2");
        for text in [
            "p@ss\"w/rd",
            "p%40ss%22w%2Frd",
            r#"p@ss\"w/rd"#,
            "a hunter2 b",
        ] {
            let masked = secrets.mask(text).into_owned();
            assert!(masked.contains(MASK), "{masked}");
            assert!(
                !masked.contains("ss") && !masked.contains("hunter"),
                "{masked}"
            );
        }
        assert_eq!(secrets.mask("as it was"), "as it was");
        assert!(!format!("{secrets:?}").contains("hunter2"));
    }
}
