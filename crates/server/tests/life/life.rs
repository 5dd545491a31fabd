//! Which steps are possible when, and what must always hold.

use super::world::{Action, Asking, Mark, Persister, Place, World};
use std::collections::BTreeSet;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) misfortunes: u8,
    pub(super) submissions: u8,
    pub(super) workers: u8,
    pub(super) persisters: usize,
    /// How often the task is put on the queue again as overdue.
    pub(super) requeues: u8,
}

impl Life {
    fn server_actions(self, world: &World, actions: &mut Vec<Action>) {
        if world.spool.is_none() && !world.recent && world.submissions < self.submissions {
            actions.push(Action::Submit);
        }
        let may_be_asked = matches!(
            world.place,
            Place::Unsure | Place::Ended | Place::Sent { confirmed: true }
        );
        match world.asking {
            Asking::Nothing if may_be_asked => actions.push(Action::Ask),
            Asking::Nothing => {}
            Asking::Absent(_) => actions.push(Action::AskDatabase),
            Asking::Row(..) => actions.push(Action::Decide),
        }
        if world.place == Place::Waiting {
            actions.push(Action::Dispatch);
            if world.outcomes == 0 {
                actions.push(Action::Withdraw);
            }
        }
        for (is_possible, action) in [
            (world.dispatching, Action::DispatchDone),
            (world.late_dispatch, Action::LateDispatch),
            (world.announcing.is_some(), Action::Announce),
        ] {
            actions.extend(is_possible.then_some(action));
        }
        for &news in &world.news {
            actions.extend([Action::Hear(news), Action::Miss(news)]);
        }
        let is_late = world.mark == Mark::Queued && matches!(world.place, Place::Sent { .. });
        if is_late && world.requeues < self.requeues {
            actions.push(Action::Requeue);
        }
    }

    fn other_actions(self, world: &World, actions: &mut Vec<Action>) {
        for (is_possible, action) in [
            (
                world.queue > 0 && world.working < self.workers,
                Action::Take,
            ),
            (world.unacked > 0, Action::LeaseRunsOut),
            (world.working > 0, Action::Finish),
        ] {
            actions.extend(is_possible.then_some(action));
        }
        let mut one_is_idle = false;
        for (it, persister) in world.persisters.iter().enumerate() {
            match persister {
                // Any other idle one would do the same.
                Persister::Idle if one_is_idle => {}
                Persister::Idle => {
                    one_is_idle = true;
                    let reads = world.stream.iter().map(|&event| Action::Read(it, event));
                    actions.extend(reads);
                }
                Persister::Holds(_) => actions.push(Action::Commit(it)),
                Persister::Committed { .. } => actions.push(Action::Settle(it)),
            }
        }
    }

    fn misfortunes(world: &World, actions: &mut Vec<Action>) {
        for (is_possible, action) in [
            (
                world.dispatching,
                Action::DispatchFails { took_effect: true },
            ),
            (
                world.dispatching,
                Action::DispatchFails { took_effect: false },
            ),
            (world.announcing.is_some(), Action::AnnounceIsLost),
            (
                world.accepted,
                Action::ServerDies {
                    removal_undone: false,
                },
            ),
            (
                world.lingering.is_some(),
                Action::ServerDies {
                    removal_undone: true,
                },
            ),
            (world.working > 0, Action::WorkerDies),
            (world.accepted, Action::RedisIsWiped),
            (matches!(world.mark, Mark::Ended(_)), Action::RedisIsSetBack),
        ] {
            actions.extend(is_possible.then_some(action));
        }
        let busy = world.persisters.iter().enumerate();
        let busy = busy.filter(|(_, persister)| **persister != Persister::Idle);
        actions.extend(busy.map(|(it, _)| Action::PersisterDies(it)));
    }
}

impl Life {
    /// Before anything has happened.
    pub(super) fn beginning(self) -> World {
        World {
            accepted: false,
            told: None,
            lied: false,
            spool: None,
            lingering: None,
            place: Place::Nowhere,
            fresh: true,
            recent: false,
            asking: Asking::Nothing,
            dispatching: false,
            late_dispatch: false,
            announcing: None,
            news: BTreeSet::new(),
            mark: Mark::Absent,
            queue: 0,
            unacked: 0,
            stream: BTreeSet::new(),
            working: 0,
            persisters: vec![Persister::Idle; self.persisters],
            row: None,
            outcomes: 0,
            misfortunes: 0,
            submissions: 0,
            requeues: 0,
        }
    }

    /// What may happen in this state.
    pub(super) fn actions(self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        self.server_actions(world, &mut actions);
        self.other_actions(world, &mut actions);
        if world.misfortunes < self.misfortunes {
            Self::misfortunes(world, &mut actions);
        }
        actions
    }
}

impl World {
    /// What comes of an action in this state, if it changes anything.
    pub(super) fn after(&self, action: Action) -> Option<Self> {
        let mut next = self.clone();
        next.act(action);
        // Those that may happen at any time are not counted.
        if action.is_misfortune() && !matches!(action, Action::Miss(_) | Action::Requeue) {
            next.misfortunes += 1;
        }
        next.persisters.sort_unstable();
        (next != *self).then_some(next)
    }

    /// What must hold in every state, and does not in this one.
    pub(super) fn broken_promise(&self) -> Option<&'static str> {
        let has_left = self.spool.is_none();
        if self.lied {
            Some("the client was told two things")
        } else if self.accepted && has_left && self.row.flatten().is_none() {
            Some("an accepted job is neither in the spool nor ended in the history")
        } else if has_left && self.told.is_some() && self.row != Some(self.told) {
            Some("the history does not say what was told")
        } else {
            None
        }
    }
}
