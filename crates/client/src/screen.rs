//! Printing: results on standard output, everything else on standard error.

use crate::clean::clean;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Colours of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As the terminal has it.
    Plain,
    /// Headers.
    Bold,
    /// What went well.
    Green,
    /// What did not.
    Red,
    /// What is not decided.
    Yellow,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
        }
    }
}

/// How much to say on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talk {
    /// Errors only.
    Quiet,
    /// Errors, warnings, a summary, progress.
    Normal,
    /// Also what happens to the connection.
    Verbose,
}

/// Standard output and standard error, and how to use them. Clones share one progress bar.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    talk: Talk,
    color: bool,
    bar: ProgressBar,
    closed: Arc<AtomicBool>,
}

impl Screen {
    /// A screen; `color` is for standard output.
    pub(crate) fn new(talk: Talk, color: bool) -> Self {
        Self {
            talk,
            color,
            bar: ProgressBar::hidden(),
            closed: Arc::default(),
        }
    }

    /// Whether less is to be said than usual.
    pub(crate) fn is_quiet(&self) -> bool {
        self.talk == Talk::Quiet
    }

    /// Columns of the terminal on standard output, if it is one.
    pub(crate) fn width() -> Option<usize> {
        Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns).max(40))
    }

    /// Begins to show progress, if there is a terminal on standard error.
    pub(crate) fn start_bar(&mut self) {
        if self.talk < Talk::Normal || !io::stderr().is_terminal() {
            return;
        }
        self.bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Shows progress in words.
    pub(crate) fn progress(&self, text: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(text());
        }
    }

    /// Takes the progress away.
    pub(crate) fn stop_bar(&self) {
        self.bar.finish_and_clear();
    }

    /// The text in a colour, if there are colours.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if self.color && paint != Paint::Plain && !text.is_empty() {
            let mut out = String::with_capacity(text.len() + 12);
            // Writing to a string can't fail.
            let _ = write!(out, "\x1b[{}m{text}\x1b[0m", paint.code());
            out
        } else {
            text.to_owned()
        }
    }

    /// Whether whoever read standard output has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Prints lines of results. They are made of cleaned text already.
    ///
    /// A closed pipe is no error: there is just nobody to print for any more.
    pub(crate) fn print(&self, lines: &str) -> io::Result<()> {
        self.write(lines.as_bytes())
    }

    /// Prints bytes as they are.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let result = self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    /// What made the program fail.
    pub(crate) fn error(&self, text: &str) {
        self.say(&format!("imgsys: {}", clean(text)));
    }

    /// What the user should know.
    pub(crate) fn note(&self, text: &str) {
        if self.talk >= Talk::Normal {
            self.say(&format!("imgsys: {}", clean(text)));
        }
    }

    /// What somebody looking for a fault wants to know.
    pub(crate) fn verbose(&self, text: &str) {
        if self.talk >= Talk::Verbose {
            self.say(&format!("imgsys: {}", clean(text)));
        }
    }

    fn say(&self, line: &str) {
        // If standard error is closed there is nowhere left to say so.
        let _ = self.bar.suspend(|| writeln!(io::stderr(), "{line}"));
    }
}
