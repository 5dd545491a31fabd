//! The client `imgsys`: sends images, waits for the answers, shows the history.
//!
//! | module | holds |
//! |---|---|
//! | `cli` | the command line |
//! | `commands` | one module a command |
//! | `session` | sending and waiting as a state machine without I/O |
//! | `driver` | what drives it: files, connection, clock |
//! | `files` | which files to send; hashing |
//! | `server`, `token` | the server to talk to, how it is known, and the secret that says as whom |
//! | `link`, `writer` | a connection: opened, greeted, found dead in time; its sending half |
//! | `caller` | one question, one answer, over reconnects |
//! | `report`, `reporter` | what became of a file, and how it is told |
//! | `line`, `table` | a job as JSON, CSV or a row |
//! | `screen` | standard output and standard error |
//! | `clean` | other people's text, made harmless |
//!
//! A file is hashed first and the server asked whether it has it; only if not are the bytes sent.
//! Each file has its job id from the beginning, and keeps it however often the connection breaks:
//! that is what makes sending twice harmless.

mod backoff;
mod caller;
mod clean;
mod cli;
mod commands;
mod context;
mod driver;
mod error;
mod files;
mod line;
mod link;
mod report;
mod reporter;
mod screen;
mod server;
mod session;
mod table;
mod times;
mod token;
mod writer;

use clap::{ColorChoice, CommandFactory, Parser};
use cli::{Cli, Command, Global};
use context::Context;
use error::{ClientError, Exit, chain};
use screen::{Screen, Talk};
use server::Server;
use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    process::ExitCode,
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The command line, from which completions and man pages are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program with these arguments, the first of them its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, errors to standard error; if that is closed,
            // there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
            .into();
        }
    };
    let screen = screen(&cli.global);
    let exit = execute(cli, &screen).unwrap_or_else(|error| {
        screen.error(&match &error {
            ClientError::Interrupted => "interrupted".to_owned(),
            other => chain(other),
        });
        error.exit()
    });
    exit.into()
}

fn screen(global: &Global) -> Screen {
    let talk = match (global.quiet, global.verbose) {
        (true, _) => Talk::Quiet,
        (false, true) => Talk::Verbose,
        (false, false) => Talk::Normal,
    };
    let color = match global.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
            let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
            io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
        }
    };
    Screen::new(talk, color)
}

fn execute(cli: Cli, screen: &Screen) -> Result<Exit, ClientError> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ClientError::local("starting the runtime"))?;
    let server = Server::new(&cli.global)?;
    let result = runtime.block_on(async {
        let context = Context {
            server,
            connect_timeout: cli.global.connect_timeout,
            retry_for: cli.global.retry_for,
            screen: screen.clone(),
            interrupt: listen_for_signals().map_err(ClientError::local("listening for signals"))?,
        };
        dispatch(cli.command, context).await
    });
    // A file that is being hashed is nothing to wait for.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, context: Context) -> Result<Exit, ClientError> {
    // These end by themselves, to say what was accepted.
    let minds_interrupts = matches!(
        command,
        Command::Send(_) | Command::Wait(_) | Command::Reanalyze(_)
    );
    let interrupt = context.clone();
    let work = async {
        match command {
            Command::History(args) => commands::history::run(args, context).await,
            Command::Show(args) => commands::show::run(args, context).await,
            Command::Similar(args) => commands::similar::run(args, context).await,
            Command::Get(args) => commands::get::run(args, context).await,
            Command::Cancel(args) => commands::cancel::run(args, context).await,
            Command::Delete(args) => commands::delete::run(args, context).await,
            Command::Reanalyze(args) => commands::reanalyze::run(args, context).await,
            Command::Status(args) => commands::status::run(args, context).await,
            Command::Send(args) => commands::send::run(args, context).await,
            Command::Wait(args) => commands::wait::run(args, context).await,
        }
    };
    tokio::select! {
        result = work => result,
        () = interrupt.interrupted(), if !minds_interrupts => Err(ClientError::Interrupted),
    }
}

/// The first Ctrl-C (or SIGTERM) asks the program to end, the second one ends it.
fn listen_for_signals() -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(Exit::Interrupted as i32);
            }
        }
    });
    Ok(receiver)
}
