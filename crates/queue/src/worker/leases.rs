//! What this worker holds: the messages that it has popped and not settled.

use super::{Begun, broker::Hold};
use crate::{incoming::Incoming, monitor::events::Events};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The messages held, by lease: the delivery tag under which each was popped.
#[derive(Debug)]
pub(super) struct Leases {
    table: Mutex<Table>,
    /// How many are held that are not aside.
    busy: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    by_lease: HashMap<String, Held>,
    /// The lease of each task id.
    by_task: HashMap<String, String>,
    /// How many are aside.
    aside: usize,
    /// How many run.
    running: usize,
}

#[derive(Debug)]
struct Held {
    task: Arc<Incoming>,
    /// Its own delivery tag, and those of further copies of the same task.
    tags: Vec<String>,
    stage: Stage,
    attempt: u32,
    alone: bool,
    /// When it began; for what runs.
    begun: Begun,
    cancelled: CancellationToken,
    revoked: CancellationToken,
    /// What it takes of the room for messages, once it may run.
    hold: Option<Hold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing else knows of it yet.
    Aside,
    /// In the worker loop's hands, perhaps until its time comes.
    Waiting,
    Running,
    /// Its end is on its way to Redis.
    Ending,
}

/// A task that begins to run.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) task: Arc<Incoming>,
    pub(super) attempt: u32,
    pub(super) alone: bool,
    /// Said when the analysis begins.
    pub(super) begun: Begun,
    /// Set when the message is given back while it runs.
    pub(super) cancelled: CancellationToken,
    /// Set when the task is revoked while it runs.
    pub(super) revoked: CancellationToken,
}

/// A task that is held, as monitors see it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) task: Arc<Incoming>,
    pub(super) standing: Standing,
    /// When its analysis began, in seconds since 1970.
    pub(super) begun: Option<f64>,
}

/// What Celery calls a task that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being analysed.
    Active,
    /// It waits for its turn.
    Reserved,
    /// It waits for its time.
    Scheduled,
}

/// What is to be done about a task that is revoked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// It is not here, or ends already.
    NotHere,
    /// It waits, under this lease, and is to be ended.
    Waits(String),
    /// It runs, and goes on.
    Runs,
    /// It ran, and ends now.
    Stopped,
}

/// A message that is no longer held here, and must be settled or given back in Redis.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) task: Arc<Incoming>,
    pub(super) tags: Vec<String>,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::default(),
            busy: watch::channel(0).0,
        }
    }

    /// Holds a message, aside from the others. `false` if a copy of its task is held already:
    /// then this one shares that one's fate, and never runs beside it.
    pub(super) fn hold(&self, lease: &str, task: &Arc<Incoming>) -> bool {
        self.change(|table| {
            if let Some(first) = table.by_task.get(&task.id)
                && let Some(held) = table.by_lease.get_mut(first)
            {
                held.tags.push(lease.to_owned());
                return false;
            }
            table.by_task.insert(task.id.clone(), lease.to_owned());
            let held = Held {
                task: Arc::clone(task),
                tags: vec![lease.to_owned()],
                stage: Stage::Aside,
                attempt: 1,
                alone: false,
                begun: Begun::default(),
                cancelled: CancellationToken::new(),
                revoked: CancellationToken::new(),
                hold: None,
            };
            table.by_lease.insert(lease.to_owned(), held);
            table.aside += 1;
            true
        })
    }

    /// What was held aside may run from now on.
    pub(super) fn hand_over(&self, lease: &str, attempt: u32, alone: bool, hold: Hold) {
        self.change(|table| {
            if let Some(held) = table.by_lease.get_mut(lease)
                && held.stage == Stage::Aside
            {
                held.stage = Stage::Waiting;
                held.attempt = attempt;
                held.alone = alone;
                held.hold = Some(hold);
                table.aside -= 1;
            }
        });
    }

    /// Begins to run a task; `None` if its message has been given back meanwhile. When its analysis
    /// begins is told by events.
    pub(super) fn start(&self, lease: &str, events: &Arc<Events>) -> Option<Started> {
        self.change(|table| {
            let held = table.by_lease.get_mut(lease)?;
            if held.stage != Stage::Waiting {
                return None;
            }
            held.stage = Stage::Running;
            held.begun = Begun::of(events, &held.task.id);
            table.running += 1;
            Some(Started {
                begun: held.begun.clone(),
                task: Arc::clone(&held.task),
                attempt: held.attempt,
                alone: held.alone,
                cancelled: held.cancelled.clone(),
                revoked: held.revoked.clone(),
            })
        })
    }

    /// Begins to end a task; gives what must be settled. `None` if that is no business of this
    /// worker any more, or is under way.
    pub(super) fn end(&self, lease: &str) -> Option<Released> {
        self.change(|table| {
            let held = table.by_lease.get_mut(lease)?;
            match held.stage {
                Stage::Ending => return None,
                Stage::Aside => table.aside -= 1,
                Stage::Waiting => {}
                Stage::Running => table.running -= 1,
            }
            held.stage = Stage::Ending;
            Some(Released {
                task: Arc::clone(&held.task),
                tags: held.tags.clone(),
            })
        })
    }

    /// Redis has settled these tags. Gives those of copies that came since then.
    pub(super) fn settled(&self, lease: &str, tags: &[String]) -> Vec<String> {
        self.change(|table| {
            let Some(mut held) = table.remove(lease) else {
                return Vec::new();
            };
            held.tags.retain(|tag| !tags.contains(tag));
            held.tags
        })
    }

    /// Takes out what has not begun to run and is not aside.
    pub(super) fn take_waiting(&self) -> Vec<Released> {
        self.take(|held| held.stage == Stage::Waiting)
    }

    /// Takes out what has not begun to run, or waits for the analyzer to begin.
    pub(super) fn take_unstarted(&self) -> Vec<Released> {
        self.take(|held| match held.stage {
            Stage::Waiting | Stage::Aside => true,
            Stage::Running => held.begun.time().is_none(),
            Stage::Ending => false,
        })
    }

    /// Takes out all but what is ending; what runs is told to stop.
    pub(super) fn take_unfinished(&self) -> Vec<Released> {
        self.take(|held| held.stage != Stage::Ending)
    }

    fn take(&self, which: impl Fn(&Held) -> bool) -> Vec<Released> {
        self.change(|table| {
            let chosen = table
                .by_lease
                .iter()
                .filter(|(_, held)| which(held))
                .map(|(lease, _)| lease.clone());
            let chosen: Vec<String> = chosen.collect();
            chosen
                .iter()
                .filter_map(|lease| table.remove(lease))
                .map(|held| {
                    held.cancelled.cancel();
                    Released {
                        task: held.task,
                        tags: held.tags,
                    }
                })
                .collect()
        })
    }

    /// Revokes a task. If it has begun it goes on, unless it is to be stopped.
    pub(super) fn revoke(&self, task_id: &str, stop: bool) -> Revoked {
        let table = self.lock();
        let Some(lease) = table.by_task.get(task_id) else {
            return Revoked::NotHere;
        };
        let Some(held) = table.by_lease.get(lease) else {
            return Revoked::NotHere;
        };
        match held.stage {
            Stage::Aside | Stage::Ending => Revoked::NotHere,
            Stage::Waiting => Revoked::Waits(lease.clone()),
            Stage::Running if stop || held.begun.time().is_none() => {
                held.revoked.cancel();
                Revoked::Stopped
            }
            Stage::Running => Revoked::Runs,
        }
    }

    /// The tasks that are held and neither aside nor ending.
    pub(super) fn views(&self) -> Vec<View> {
        self.lock().by_lease.values().filter_map(view).collect()
    }

    /// One of [`Leases::views`].
    pub(super) fn view(&self, task_id: &str) -> Option<View> {
        let table = self.lock();
        table
            .by_lease
            .get(table.by_task.get(task_id)?)
            .and_then(view)
    }

    /// How many analyses are under way.
    pub(super) fn active(&self) -> usize {
        let table = self.lock();
        let running = |held: &&Held| held.stage == Stage::Running && held.begun.time().is_some();
        table.by_lease.values().filter(running).count()
    }

    /// How many tasks run, or wait for a thread of the analyzer.
    pub(super) fn running(&self) -> usize {
        self.lock().running
    }

    /// All delivery tags that are held.
    pub(super) fn tags(&self) -> Vec<String> {
        let table = self.lock();
        let held = table.by_lease.values();
        held.flat_map(|held| held.tags.iter().cloned()).collect()
    }

    /// How many messages are held that are not aside.
    pub(super) fn busy(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.lock();
        let out = change(&mut table);
        let busy = table.by_lease.len() - table.aside;
        self.busy
            .send_if_modified(|known| std::mem::replace(known, busy) != busy);
        out
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, lease: &str) -> Option<Held> {
        let held = self.by_lease.remove(lease)?;
        self.by_task.remove(&held.task.id);
        match held.stage {
            Stage::Aside => self.aside -= 1,
            Stage::Running => self.running -= 1,
            Stage::Waiting | Stage::Ending => {}
        }
        Some(held)
    }
}

fn view(held: &Held) -> Option<View> {
    let begun = held.begun.time();
    let standing = match held.stage {
        Stage::Aside | Stage::Ending => return None,
        Stage::Waiting if held.task.is_early() => Standing::Scheduled,
        Stage::Running if begun.is_some() => Standing::Active,
        Stage::Waiting | Stage::Running => Standing::Reserved,
    };
    Some(View {
        task: Arc::clone(&held.task),
        standing,
        begun,
    })
}
