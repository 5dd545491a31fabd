//! Running the system for a person: `up` and `demo`.

use crate::{
    Stack, Tuning,
    cli::{Demo, Up},
    find, model,
    stack::Builder,
};
use anyhow::{Context, anyhow};
use imgsys_service::{Exit, shutdown_on_signals};
use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    thread,
    time::Duration,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether everything is still well.
const LOOK: Duration = Duration::from_millis(100);
/// As shells report a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Keeps the system running until a signal comes or a part dies.
pub(crate) fn up(options: &Up) -> anyhow::Result<ExitCode> {
    let signals = Signals::catch()?;
    let data = options.data()?;
    talk(&format!("starting in {}", data.display()));
    let stack = builder()
        .data(data)
        .tuning(Tuning::Durable)
        .workers(options.workers.into())
        .set("server.listen", options.listen.as_str())
        .set("server.http_listen", options.http_listen.as_str())
        .start()?;
    tell_of_model();
    describe(&stack);
    while !signals.came() {
        if let Some(death) = stack.death() {
            talk("stopping, since a part ended");
            stack.stop();
            return Err(death.into());
        }
        thread::sleep(LOOK);
    }
    talk("stopping; a second signal ends everything at once");
    stack.stop();
    talk("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Starts the system in a temporary directory, sends it images, shows the history and stops.
pub(crate) fn demo(options: &Demo) -> anyhow::Result<ExitCode> {
    let signals = Signals::catch()?;
    let client = find::sibling("imgsys")?;
    talk("starting Redis, PostgreSQL, persister, server and two workers");
    let stack = builder().workers(2).start()?;
    tell_of_model();
    let send = [OsStr::new("send")]
        .into_iter()
        .chain(options.paths.iter().map(|path| path.as_os_str()))
        .collect::<Vec<_>>();
    let mut code = 0;
    for arguments in [send, vec![OsStr::new("history")]] {
        if code == 0 || code == 1 {
            let ended = run_client(&client, &arguments, &stack, &signals)?;
            code = code.max(ended);
        }
    }
    stack.stop();
    talk("stopped");
    Ok(ExitCode::from(code))
}

/// A builder whose workers use the model in the cache, if there is one.
fn builder() -> Builder {
    let builder = Stack::builder();
    if let Some(onnx) = model::configuration() {
        builder.set("worker.onnx", onnx)
    } else {
        builder
    }
}

/// Says so if labels are made up.
fn tell_of_model() {
    if model::configuration().is_none() {
        talk("there is no model (make model): labels are simulated, they mean nothing");
    }
}

/// The client's exit code.
fn run_client(
    client: &Path,
    arguments: &[&OsStr],
    stack: &Stack,
    signals: &Signals,
) -> anyhow::Result<u8> {
    let shown: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    eprintln!("\n$ imgsys {}", shown.join(" "));
    // The client goes with us too, should we be killed.
    let mut client = Command::new(find::setpriv()?)
        .args(["--pdeathsig", "TERM", "--"])
        .arg(client)
        .args(arguments)
        .env("IMGSYS_SERVER", stack.address())
        .spawn()
        .context("starting imgsys")?;
    let outcome = watch_client(&mut client, stack, signals);
    if outcome.is_err() || signals.came() {
        // Ended already, unless it was started from elsewhere than a terminal.
        _ = client.kill();
        _ = client.wait();
    }
    outcome
}

fn watch_client(client: &mut Child, stack: &Stack, signals: &Signals) -> anyhow::Result<u8> {
    loop {
        if let Some(status) = client.try_wait().context("waiting for imgsys")? {
            return Ok(code(status));
        }
        if signals.came() {
            return Ok(INTERRUPTED);
        }
        if let Some(death) = stack.death() {
            return Err(death.into());
        }
        thread::sleep(LOOK / 5);
    }
}

fn code(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(INTERRUPTED)
}

fn describe(stack: &Stack) {
    let (address, imgsys) = (stack.address(), find::typed("imgsys"));
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output wants none of it; the system runs on.
    _ = writeln!(
        out,
        "imgsys is up, with {} worker(s). Its data and logs are in {}.

  IMGSYS_SERVER={address} {imgsys} send photo.jpg
  IMGSYS_SERVER={address} {imgsys} history

Ctrl-C stops it.",
        stack.workers().len(),
        stack.dir().display()
    );
    _ = out.flush();
}

fn talk(text: &str) {
    eprintln!("imgsys-local: {text}");
}

/// SIGINT and SIGTERM, caught on a thread of their own.
struct Signals {
    token: CancellationToken,
    _runtime: Runtime,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let token =
            runtime
                .block_on(async { shutdown_on_signals() })
                .map_err(|exit| match exit {
                    Exit::Usage(message) => anyhow!(message),
                    Exit::Failed(error) => error,
                })?;
        Ok(Self {
            token,
            _runtime: runtime,
        })
    }

    fn came(&self) -> bool {
        self.token.is_cancelled()
    }
}
