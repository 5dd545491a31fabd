//! File, variables and flags made into one configuration.
//!
//! The default of every key lies under the file's value, that under the `IMGSYS_…` variable, that
//! under the flag. The file is checked whole by every program, so a mistyped key in `[worker]` is
//! found by the server too.

use crate::{Config, Exit};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, parser::ValueSource,
    value_parser,
};
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

/// A program's command line: its own subcommands, to which [`command`] adds the rest.
pub trait Program: CommandFactory + FromArgMatches {
    /// The sections whose flags bear no prefix (`--listen` rather than `--server-listen`).
    const OWN: &'static [&'static str];
    /// The sections that the program has flags for.
    type Sections: Serialize + Args;

    /// Looks for what is wrong with a configuration beyond its form, without touching anything.
    /// Called on a Tokio runtime.
    fn check(config: &Config) -> Result<(), Exit>;
}

/// What a program is asked to do.
#[derive(Debug)]
pub enum Wish<P> {
    /// Its work, or one of its own subcommands.
    Run(P),
    /// To say whether the configuration is right.
    CheckConfig,
    /// To show the configuration that results from file, variables and flags.
    PrintConfig,
}

const CONFIG: &str = "config";
const CHECK: &str = "check-config";
const PRINT: &str = "print-config";

/// The command of a program: its own, with the flags of its sections, every variable attached, and
/// what all programs can do with their configuration.
#[must_use]
pub fn command<P: Program>() -> Command {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .env("IMGSYS_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help(format!(
            "Configuration file [default: {DEFAULT_FILE}, if it is there]"
        ));
    let print = Arg::new(PRINT)
        .long(PRINT)
        .action(ArgAction::SetTrue)
        .help("Print the configuration that results, without passwords, and end");
    let check = Command::new(CHECK).about("Check the configuration and end");
    let sections = P::Sections::augment_args(Command::new("sections"));
    let command = P::command()
        .args([file, print])
        .args(sections.get_arguments().cloned())
        .subcommand(check);
    command.mut_args(|arg| {
        let id = arg.get_id().to_string();
        let Some((section, key)) = id.split_once('.') else {
            return arg;
        };
        let variable = format!("IMGSYS_{}", id.replace('.', "_")).to_uppercase();
        let arg = arg.env(variable).help_heading(format!("[{section}]"));
        // A URL may hold a password, which help would show.
        let arg = arg.hide_env_values(key == "url");
        let flag = key.replace(['_', '.'], "-");
        if P::OWN.contains(&section) {
            arg.long(flag)
        } else {
            arg.long(format!("{section}-{flag}"))
        }
    })
}

/// Reads this process's arguments. A wrong flag ends the process as clap does, with code 2.
pub fn parse<P: Program>() -> Result<(Wish<P>, Config), ConfigError> {
    let matches = command::<P>().get_matches();
    let config = merge::<P>(&matches)?;
    let wish = wish(&matches).unwrap_or_else(|error| error.exit());
    Ok((wish, config))
}

/// [`parse`] for the arguments given.
pub fn parse_from<P: Program, T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<(Wish<P>, Config), ConfigError> {
    let matches = command::<P>()
        .try_get_matches_from(arguments)
        .map_err(flags)?;
    let config = merge::<P>(&matches)?;
    Ok((wish(&matches).map_err(flags)?, config))
}

fn flags(error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Flags(error.to_string())
}

fn wish<P: Program>(matches: &ArgMatches) -> Result<Wish<P>, clap::Error> {
    if matches.get_flag(PRINT) {
        Ok(Wish::PrintConfig)
    } else if matches.subcommand_name() == Some(CHECK) {
        Ok(Wish::CheckConfig)
    } else {
        P::from_arg_matches(matches).map(Wish::Run)
    }
}

fn merge<P: Program>(matches: &ArgMatches) -> Result<Config, ConfigError> {
    let mut table = defaults()?;
    let file = file_of(matches.get_one::<PathBuf>(CONFIG));
    if let Some(file) = &file {
        overlay(&mut table, read(file)?);
        // The file is judged before flags are laid over it, so that a flag can't hide a mistake.
        build(table.clone(), file)?;
    }
    let sections = P::Sections::from_arg_matches(matches).map_err(flags)?;
    overlay(&mut table, given(&sections, matches)?);
    build(table, &file.unwrap_or_else(|| "flags".into()))
}

fn file_of(asked: Option<&PathBuf>) -> Option<PathBuf> {
    asked.cloned().or_else(|| {
        let usual = Path::new(DEFAULT_FILE);
        usual.exists().then(|| usual.to_owned())
    })
}

fn defaults() -> Result<Table, ConfigError> {
    let command = Config::augment_args(Command::new("defaults"));
    let matches = command.try_get_matches_from(["defaults"]).map_err(flags)?;
    let config = Config::from_arg_matches(&matches).map_err(flags)?;
    Table::try_from(config).map_err(flags)
}

/// The configuration in this text, over the defaults; `file` is what errors call it.
pub fn from_text(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let mut table = defaults()?;
    overlay(&mut table, table_of(text, file)?);
    build(table, file)
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
        file: file.to_owned(),
        source,
    })?;
    table_of(&text, file)
}

fn table_of(text: &str, file: &Path) -> Result<Table, ConfigError> {
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
    let all = Table::try_from(sections).map_err(flags)?;
    let mut given = Table::new();
    for id in matches.ids() {
        if !id.as_str().contains('.') {
            continue;
        }
        let source = matches.value_source(id.as_str());
        if !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            continue;
        }
        take(&all, &mut given, id.as_str());
    }
    Ok(given)
}

/// Puts the value at a path of keys, if there is one, into the other table.
fn take(from: &Table, into: &mut Table, path: &str) {
    let Some((first, rest)) = path.split_once('.') else {
        if let Some(value) = from.get(path) {
            into.insert(path.into(), value.clone());
        }
        return;
    };
    let inner = into
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    if let (Some(Value::Table(from)), Value::Table(into)) = (from.get(first), inner) {
        take(from, into, rest);
    }
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
