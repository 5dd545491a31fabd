//! File, variables and flags made into one configuration.
//!
//! The default of every key lies under the file's value, that under the `IMGSYS_…` variable, that
//! under the flag. The file is checked whole by every program, so a mistyped key in `[worker]` is
//! found by the server too.

use crate::Config;
use clap::{ArgMatches, Args as _, CommandFactory, FromArgMatches, parser::ValueSource};
use serde::Serialize;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// Where the configuration is looked for if no flag names it.
pub const DEFAULT_FILE: &str = "/etc/imgsys/imgsys.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {message}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, column and what was expected, on one line.
        message: String,
    },
    /// A key that does not exist, or a value of the wrong kind.
    #[error("{}: {key}: {message}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, as `section.key`.
        key: String,
        /// What is allowed.
        message: String,
    },
    /// A flag or variable that can't be taken over.
    #[error("reading flags: {0}")]
    Flags(String),
}

/// A program's command line: the sections it uses, flattened, and its subcommands.
pub trait Program: CommandFactory + FromArgMatches {
    /// The sections whose flags bear no prefix (`--listen` rather than `--server-listen`).
    const OWN: &'static [&'static str];
    /// The sections that the program has flags for, as they came from flags and variables.
    type Sections: Serialize;

    /// The sections.
    fn sections(&self) -> &Self::Sections;
    /// The configuration file that was asked for.
    fn config_file(&self) -> Option<&Path>;
}

/// The command of a program with every flag named and every variable attached.
#[must_use]
pub fn command<P: Program>() -> clap::Command {
    P::command().mut_args(|arg| {
        let id = arg.get_id().to_string();
        let Some((section, key)) = id.split_once('.') else {
            return arg;
        };
        let variable = format!("IMGSYS_{section}_{key}").to_uppercase();
        let arg = arg.env(variable).help_heading(format!("[{section}]"));
        let flag = key.replace('_', "-");
        if P::OWN.contains(&section) {
            arg.long(flag)
        } else {
            arg.long(format!("{section}-{flag}"))
        }
    })
}

/// Reads this process's arguments. A wrong flag ends the process as clap does, with code 2.
pub fn parse<P: Program>() -> Result<(P, Config), ConfigError> {
    let matches = command::<P>().get_matches();
    let program = P::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let config = merge(&program, &matches)?;
    Ok((program, config))
}

/// [`parse`] for the arguments given.
pub fn parse_from<P: Program, T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<(P, Config), ConfigError> {
    let flags = |error: clap::Error| ConfigError::Flags(error.to_string());
    let matches = command::<P>()
        .try_get_matches_from(arguments)
        .map_err(flags)?;
    let program = P::from_arg_matches(&matches).map_err(flags)?;
    let config = merge(&program, &matches)?;
    Ok((program, config))
}

fn merge<P: Program>(program: &P, matches: &ArgMatches) -> Result<Config, ConfigError> {
    let mut table = defaults()?;
    let file = file_of(program.config_file());
    if let Some(file) = &file {
        overlay(&mut table, read(file)?);
        // The file is judged before flags are laid over it, so that a flag can't hide a mistake.
        build(table.clone(), file)?;
    }
    overlay(&mut table, given(program.sections(), matches)?);
    build(table, &file.unwrap_or_else(|| "flags".into()))
}

fn file_of(asked: Option<&Path>) -> Option<PathBuf> {
    asked.map(Path::to_owned).or_else(|| {
        let usual = Path::new(DEFAULT_FILE);
        usual.exists().then(|| usual.to_owned())
    })
}

fn defaults() -> Result<Table, ConfigError> {
    let flags = |error: &dyn std::fmt::Display| ConfigError::Flags(error.to_string());
    let command = Config::augment_args(clap::Command::new("defaults"));
    let matches = command
        .try_get_matches_from(["defaults"])
        .map_err(|e| flags(&e))?;
    let config = Config::from_arg_matches(&matches).map_err(|e| flags(&e))?;
    Table::try_from(config).map_err(|e| flags(&e))
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
        file: file.to_owned(),
        source,
    })?;
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text[..span.start.min(text.len())].matches('\n').count() + 1
        });
        ConfigError::Syntax {
            file: file.to_owned(),
            message: format!("line {line}: {}", one_line(error.message())),
        }
    })
}

/// The keys that were given by flag or variable, with their values.
fn given(sections: &impl Serialize, matches: &ArgMatches) -> Result<Table, ConfigError> {
    let all = Table::try_from(sections).map_err(|e| ConfigError::Flags(e.to_string()))?;
    let mut given = Table::new();
    for id in matches.ids() {
        let Some((section, key)) = id.as_str().split_once('.') else {
            continue;
        };
        let source = matches.value_source(id.as_str());
        if !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            continue;
        }
        if let Some(value) = all.get(section).and_then(|table| table.get(key)) {
            let section = given
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = section {
                table.insert(key.into(), value.clone());
            }
        }
    }
    Ok(given)
}

fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn build(table: Table, file: &Path) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| ConfigError::Key {
        file: file.to_owned(),
        key: error.path().to_string(),
        message: one_line(error.inner().message()),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
