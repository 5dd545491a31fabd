//! As much of Redis' protocol as is needed to fill it with commands, and to ask what it has done.

use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

/// A connection over Redis' socket.
#[derive(Debug)]
pub(crate) struct Redis {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Redis {
    /// Connects to a URL as `unix:///…`.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Self> {
        let path = url
            .strip_prefix("unix://")
            .context("Redis is on no socket")?;
        let write = UnixStream::connect(path).with_context(|| format!("connecting to {url}"))?;
        let read = BufReader::with_capacity(1 << 18, write.try_clone()?);
        Ok(Self { write, read })
    }

    /// Sends commands, and reads as many answers.
    pub(crate) fn pipeline(&mut self, commands: &[u8], count: usize) -> anyhow::Result<()> {
        self.write.write_all(commands)?;
        for _ in 0..count {
            self.answer()?;
        }
        Ok(())
    }

    /// How often each command was called so far, those inside scripts too.
    pub(crate) fn calls(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.write
            .write_all(&command(&[b"INFO", b"commandstats"]))?;
        let text = self.answer()?;
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("cmdstat_"));
        let calls = lines.filter_map(|line| {
            let (name, rest) = line.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        Ok(calls.collect())
    }

    /// The next answer's text; a whole number is its digits.
    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.read.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some((":" | "+", rest)) => Ok(rest.into()),
            Some(("$", "-1")) => Ok(String::new()),
            Some(("$", len)) => {
                let mut text = vec![0; len.parse::<usize>()? + 2];
                self.read.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Ok(String::from_utf8_lossy(&text).into())
            }
            _ => bail!("Redis answers {line:?}"),
        }
    }
}

/// A command as Redis reads it.
#[must_use]
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
