//! A service's life: start, readiness, signals, exit code.

use crate::{Config, ConfigError, Program, Secrets, load::Wish, logging};
use sd_notify::NotifyState;
use std::{io::Write, num::NonZero, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How a program ends other than well.
#[derive(Debug)]
pub enum Exit {
    /// The command line or configuration is wrong: code 2.
    Usage(String),
    /// Anything else: code 1.
    Failed(anyhow::Error),
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Parses, starts logging and a runtime, runs `program` until it ends, and gives the exit code.
/// An error is one line on standard error.
///
/// Of `threads`, 1 is the calling one; 0 is a thread for each two cores: the others are for the threads that
/// write and hash, and each thread of a runtime wakes the next when it has more to do than one thing.
pub fn run<P: Program, F>(
    threads: usize,
    program: impl FnOnce(P, Config, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), Exit>>,
{
    let mut secrets = Secrets::default();
    let outcome = crate::parse::<P>()
        .map_err(Exit::from)
        .and_then(|(wish, config)| {
            secrets = Secrets::of(&config);
            let cli = match wish {
                Wish::PrintConfig => return print(&config),
                Wish::CheckConfig => None,
                Wish::Run(cli) => Some(cli),
            };
            // A check says what is wrong in one line, and nothing else.
            if cli.is_some() {
                logging::init(&config.log, secrets.clone())
                    .map_err(|error| Exit::Usage(format!("{error:#}")))?;
            }
            let runtime = runtime(threads).map_err(|e| Exit::Failed(e.into()))?;
            runtime.block_on(async {
                let Some(cli) = cli else {
                    return check::<P>(&config);
                };
                let shutdown = shutdown_on_signals()?;
                program(cli, config, shutdown).await
            })
        });
    let name = P::command().get_name().to_owned();
    let tell = |message: &str| eprintln!("{name}: {}", secrets.mask(message));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Usage(message)) => {
            tell(&message);
            ExitCode::from(2)
        }
        Err(Exit::Failed(cause)) => {
            tell(&format!("{cause:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with a configuration is the user's to put right, whatever found it.
fn check<P: Program>(config: &Config) -> Result<(), Exit> {
    P::check(config).map_err(|exit| match exit {
        Exit::Failed(cause) => Exit::Usage(format!("{cause:#}")),
        usage @ Exit::Usage(_) => usage,
    })?;
    say("the configuration is valid\n")
}

fn print(config: &Config) -> Result<(), Exit> {
    let text = toml::to_string(&config.clone().masked());
    say(&text.map_err(|error| Exit::Failed(error.into()))?)
}

/// Writes to standard output. Nobody reading it is no error.
fn say(text: &str) -> Result<(), Exit> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Exit::Failed(error.into()))
        }
        _ => Ok(()),
    }
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads != 1 {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { cores / 2 } else { threads };
        builder.worker_threads(threads.max(1));
    }
    builder.enable_all().build()
}

/// A token that the first SIGTERM or SIGINT cancels; the second ends the process at once.
pub fn shutdown_on_signals() -> Result<CancellationToken, Exit> {
    let token = CancellationToken::new();
    let listen = |kind| {
        signal(kind).map_err(|error| Exit::Failed(anyhow::anyhow!("catching signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancelled.is_cancelled() {
                error!("second signal: ending at once");
                std::process::exit(130);
            }
            info!("shutting down; a second signal ends at once");
            notify(&[NotifyState::Stopping]);
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// Tells whoever started the program facts about it: `NAME=value` pairs (systemd passes over them).
pub fn tell(facts: &[(&str, String)]) {
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("X_IMGSYS_{name}={value}"))
        .collect();
    let states = facts.iter().map(|fact| NotifyState::Custom(fact));
    notify(&states.collect::<Vec<_>>());
}

/// Tells the service manager that the program does its work now, and keeps its watchdog quiet from
/// here on. The facts are told as by [`tell`].
pub fn ready(facts: &[(&str, String)]) {
    tell(facts);
    notify(&[NotifyState::Ready]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut every = tokio::time::interval(limit / 3);
            loop {
                every.tick().await;
                notify(&[NotifyState::Watchdog]);
            }
        });
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("telling the service manager: {error}");
    }
}
