//! `imgsys-worker dead list | show | requeue | drop`: what was set aside, and what becomes of it.

use anyhow::Context;
use clap::{Args, Subcommand};
use imgsys_queue::{DeadLetter, DeadLetters, Revived};
use imgsys_service::Exit;
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, ErrorKind, IsTerminal, Write},
    thread,
};
use tokio::sync::oneshot;

/// How many letters are read at once: each may be as large as a message.
const PAGE: usize = 16;
/// The fewest digits of an id that are taken for one.
const MIN_ID: usize = 4;

/// What is done about dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Dead {
    /// List the dead letters, the oldest first
    List {
        /// Only those that were set aside for this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Print a JSON object for each
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its message
    Show {
        /// Its id, or the beginning of it, or the id of its task
        id: String,
        /// Print a JSON object, with the message as it came
        #[arg(long)]
        json: bool,
    },
    /// Put messages on the queue once more
    ///
    /// Each begins anew: nobody has died of it, and it does not expire. A job of a server has failed by
    /// it, and that stays told; the message is the job's next run, whose result the history shows instead
    /// once it is there. A task that no server sent gets another Celery result under its id.
    Requeue(Chosen),
    /// Forget messages
    Drop(Chosen),
}

/// Which letters.
#[derive(Debug, Clone, Args)]
pub struct Chosen {
    /// Their ids, or the beginnings of them, or the ids of their tasks
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// With --all: only those that were set aside for this reason
    #[arg(long, value_name = "REASON", requires = "all")]
    reason: Option<String>,
    /// With --all: don't ask; without a terminal there is nobody to ask
    #[arg(long)]
    yes: bool,
    /// Print a JSON object for each
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(crate) async fn run(url: &str, what: Dead) -> Result<(), Exit> {
    let letters = DeadLetters::new(url).context("redis.url")?;
    let done = match what {
        Dead::List { reason, json } => list(&letters, reason.as_deref(), json).await,
        Dead::Show { id, json } => show(&letters, &id, json).await,
        Dead::Requeue(chosen) => settle(&letters, &chosen, Deed::Requeue).await,
        Dead::Drop(chosen) => settle(&letters, &chosen, Deed::Drop).await,
    };
    match done {
        Err(Exit::Failed(error)) if is_closed_pipe(&error) => Ok(()),
        done => done,
    }
}

async fn list(letters: &DeadLetters, reason: Option<&str>, json: bool) -> Result<(), Exit> {
    let mut skip = 0;
    loop {
        let page = page(letters, skip).await?;
        if page.is_empty() {
            return Ok(());
        }
        skip += page.len();
        for letter in page.iter().filter(|letter| is_for(letter, reason)) {
            if json {
                print(&summary(letter).to_string())?;
            } else {
                let (at, task) = (at(letter), letter.task.as_deref().unwrap_or("-"));
                let line = format!(
                    "{}  {at:19}  {:24}  {task:36}  {}",
                    letter.id, letter.reason, letter.detail
                );
                print(&clean(&line))?;
            }
        }
    }
}

async fn show(letters: &DeadLetters, id: &str, json: bool) -> Result<(), Exit> {
    let letter = find(letters, id).await?;
    if json {
        let mut all = summary(&letter);
        all["message"] = letter.message.as_str().into();
        return print(&all.to_string());
    }
    let message = serde_json::from_str(&letter.message).ok();
    let message = message.and_then(|message: Value| serde_json::to_string_pretty(&message).ok());
    for (name, value) in [
        ("id", letter.id.as_str()),
        ("reason", &letter.reason),
        ("detail", &letter.detail),
        ("queue", &letter.queue),
        ("at", &letter.at),
        ("task", letter.task.as_deref().unwrap_or("-")),
        (
            "job",
            &letter.job.map_or("-".to_owned(), |job| job.to_string()),
        ),
    ] {
        print(&format!("{name:8}{}", clean(value)))?;
    }
    print("message")?;
    for line in message.as_deref().unwrap_or(&letter.message).lines() {
        print(&clean(line))?;
    }
    Ok(())
}

/// What is done to letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Requeue,
    Drop,
}

async fn settle(letters: &DeadLetters, chosen: &Chosen, deed: Deed) -> Result<(), Exit> {
    let mut failed = 0;
    if chosen.all {
        let reason = chosen.reason.as_deref();
        let count = count(letters, reason).await?;
        confirm(chosen, deed, count).await?;
        let mut skip = 0;
        // No more than were asked about: what is requeued may die again meanwhile.
        let mut left = count;
        while left > 0 {
            let page = page(letters, skip).await?;
            if page.is_empty() {
                break;
            }
            for letter in &page {
                if left == 0 || !is_for(letter, reason) {
                    skip += 1;
                    continue;
                }
                left -= 1;
                if !settle_one(letters, letter, deed, chosen.json).await? {
                    failed += 1;
                    skip += 1;
                }
            }
        }
    } else {
        for id in &chosen.ids {
            let letter = find(letters, id).await?;
            if !settle_one(letters, &letter, deed, chosen.json).await? {
                failed += 1;
            }
        }
    }
    if failed > 0 {
        let error = anyhow::anyhow!("{failed} dead letters are still there, as said above");
        return Err(Exit::Failed(error));
    }
    Ok(())
}

/// Requeues or drops a letter; `false` if it is still there.
async fn settle_one(
    letters: &DeadLetters,
    letter: &DeadLetter,
    deed: Deed,
    json: bool,
) -> Result<bool, Exit> {
    let outcome = match deed {
        Deed::Requeue => Some(letters.requeue(letter).await.context("requeueing")?),
        Deed::Drop if letters.drop(letter).await.context("dropping")? => None,
        Deed::Drop => Some(Revived::Gone),
    };
    let mut task = None;
    let (state, told) = match outcome {
        None => ("dropped", "dropped".to_owned()),
        Some(Revived::Queued(id)) => {
            let told = format!("queued as task {id}");
            task = Some(id);
            ("queued", told)
        }
        Some(Revived::Gone) => ("gone", "somebody else has taken it".to_owned()),
        Some(Revived::Open) => (
            "open",
            "left: the end of its job is not in the database yet, or it is queued already"
                .to_owned(),
        ),
        Some(Revived::Unreadable) => (
            "unreadable",
            "left: it is no message that a worker could read; drop it".to_owned(),
        ),
    };
    if json {
        let line = json!({"id": letter.id, "state": state, "task": task});
        print(&line.to_string())?;
    } else {
        print(&clean(&format!("{}  {told}", letter.id)))?;
    }
    Ok(!matches!(state, "open" | "unreadable"))
}

/// Asks whether that many are meant, unless that has been said.
async fn confirm(chosen: &Chosen, deed: Deed, count: usize) -> Result<(), Exit> {
    if chosen.yes || count == 0 {
        return Ok(());
    }
    let verb = match deed {
        Deed::Requeue => "requeue",
        Deed::Drop => "drop",
    };
    if !io::stdin().is_terminal() {
        let text = format!("--all would {verb} {count} dead letters: add --yes to mean it");
        return Err(Exit::Usage(text));
    }
    eprint!("{verb} {count} dead letters? [y/N] ");
    // On a thread that nobody waits for: whoever is asked may as well interrupt.
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let mut answer = String::new();
        // An answer that can't be read is none.
        let _ = io::stdin().lock().read_line(&mut answer);
        tell.send(answer)
    });
    let answer = told.await.unwrap_or_default();
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Exit::Failed(anyhow::anyhow!("nothing was done")))
    }
}

async fn page(letters: &DeadLetters, skip: usize) -> Result<Vec<DeadLetter>, Exit> {
    Ok(letters.page(skip, PAGE).await.context("reading them")?)
}

async fn count(letters: &DeadLetters, reason: Option<&str>) -> Result<usize, Exit> {
    let (mut count, mut skip) = (0, 0);
    loop {
        let page = page(letters, skip).await?;
        if page.is_empty() {
            return Ok(count);
        }
        skip += page.len();
        count += page.iter().filter(|letter| is_for(letter, reason)).count();
    }
}

/// The one letter of this id, or of a task of this id.
async fn find(letters: &DeadLetters, id: &str) -> Result<DeadLetter, Exit> {
    let (mut found, mut skip) = (Vec::<DeadLetter>::new(), 0);
    loop {
        let page = page(letters, skip).await?;
        if page.is_empty() {
            break;
        }
        skip += page.len();
        let is_it = |letter: &DeadLetter| {
            (id.len() >= MIN_ID && letter.id.starts_with(id)) || letter.task.as_deref() == Some(id)
        };
        found.extend(page.into_iter().filter(is_it));
    }
    let told = clean(id);
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(letter), None) => Ok(letter),
        (None, _) => Err(Exit::Failed(anyhow::anyhow!(
            "no dead letter is called {told}: `imgsys-worker dead list` lists them"
        ))),
        (Some(one), Some(other)) => Err(Exit::Failed(anyhow::anyhow!(
            "several dead letters are called {told}: {}, {}{}",
            one.id,
            other.id,
            if found.next().is_some() { ", …" } else { "" }
        ))),
    }
}

fn is_for(letter: &DeadLetter, reason: Option<&str>) -> bool {
    reason.is_none_or(|reason| letter.reason == reason)
}

/// All but the message, of which there is the size.
fn summary(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "queue": letter.queue,
        "at": letter.at,
        "task": letter.task,
        "job": letter.job,
        "bytes": letter.message.len(),
    })
}

/// The time without fractions and offset, which is that of UTC.
fn at(letter: &DeadLetter) -> String {
    let shown: String = letter.at.chars().take(19).collect();
    shown.replace('T', " ")
}

/// Somebody else's text on one line, without what could do harm on a terminal.
fn clean(text: &str) -> String {
    let plain = |c: char| matches!(c, '\'' | '"' | '\\');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    out
}

fn print(line: &str) -> Result<(), Exit> {
    writeln!(io::stdout().lock(), "{line}").map_err(|error| Exit::Failed(error.into()))
}

/// Whoever closed standard output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_no_harm_on_a_terminal() {
        assert_eq!(clean("it's \"a\" \\ cät"), "it's \"a\" \\ cät");
        assert_eq!(
            clean("a\u{1b}[2Jb\nc\u{202e}d"),
            "a\\u{1b}[2Jb\\nc\\u{202e}d"
        );
    }
}
