//! What each step does to the world: that of the programs, of Redis's scripts and of the
//! database's statements.

use super::world::{
    Action, Asking, Event, MAX_OUTCOMES, Mark, News, Outcome, Persister, Place, Record, World,
};

impl World {
    /// Whether nothing is left to do: the row is there and says what was told.
    pub(super) fn is_at_its_end(&self) -> bool {
        let nothing_left = self.mark == Mark::Absent
            && self.queue + self.unacked == 0
            && self.stream.is_empty()
            && self.spool.is_none();
        !self.accepted || nothing_left && self.told.is_some() && self.row == Some(self.told)
    }

    /// The spool's first result stands, and is told.
    fn conclude(&mut self, outcome: Outcome) {
        if let Some(result) = &mut self.spool {
            let stands = *result.get_or_insert(outcome);
            self.lied |= self.told.is_some_and(|told| told != stands);
            self.told = Some(stands);
            self.place = Place::Ended;
        }
    }

    fn let_go(&mut self) {
        self.lingering = self.spool.take();
        self.place = Place::Nowhere;
        self.recent = true;
    }

    fn new_outcome(&mut self) -> Outcome {
        self.outcomes = (self.outcomes + 1).min(MAX_OUTCOMES);
        self.outcomes
    }

    /// `dispatch.lua`.
    fn dispatch(&mut self) {
        if self.mark == Mark::Absent {
            self.mark = Mark::Queued;
            self.stream.insert(Event::Accepted);
            self.queue += 1;
        }
    }

    /// `finish.lua` and `cancel.lua`.
    fn finish(&mut self, outcome: Outcome) {
        self.mark = Mark::Ended(outcome);
        let told = false;
        self.stream.insert(Event::Ended { outcome, told });
        self.news.insert(News::Result(outcome));
    }

    /// `announce.lua`.
    fn announce(&mut self, outcome: Outcome) {
        if !matches!(self.mark, Mark::Ended(_)) {
            self.mark = Mark::Ended(outcome);
            let told = true;
            self.stream.insert(Event::Ended { outcome, told });
        }
    }

    fn submit(&mut self) {
        self.accepted = true;
        self.submissions += 1;
        self.spool = Some(None);
        self.lingering = None;
        self.place = if self.fresh {
            Place::Waiting
        } else {
            Place::Unsure
        };
        self.fresh = false;
    }

    fn ask(&mut self) {
        match (self.spool, self.mark) {
            (None, _) => self.place = Place::Nowhere,
            (Some(_), Mark::Ended(outcome)) => self.conclude(outcome),
            (Some(Some(told)), Mark::Queued) => {
                self.finish(told);
                self.place = Place::Ended;
            }
            (Some(None), Mark::Queued) => self.place = Place::Sent { confirmed: true },
            (Some(result), Mark::Absent) => self.asking = Asking::Absent(result),
        }
    }

    /// After Redis had no mark.
    fn decide(&mut self, result: Option<Outcome>, row: Record) {
        match (row, result) {
            (Some(Some(outcome)), _) => {
                self.conclude(outcome);
                match self.spool {
                    Some(Some(told)) if told != outcome => self.announcing = Some(told),
                    Some(_) => self.let_go(),
                    None => {}
                }
            }
            (_, Some(told)) => {
                self.announcing = Some(told);
                self.place = Place::Ended;
            }
            (_, None) if self.place != Place::Ended => self.place = Place::Waiting,
            (_, None) => {}
        }
    }

    fn hear(&mut self, news: News) {
        self.news.remove(&news);
        match news {
            News::Result(outcome) => self.conclude(outcome),
            News::Persisted(outcome) => match self.place {
                Place::Ended if self.told == Some(outcome) => self.let_go(),
                Place::Sent { .. } => self.place = Place::Unsure,
                // In `Ended` it is asked about as well, which may happen at any time anyhow.
                _ => {}
            },
        }
    }

    fn server_dies(&mut self, removal_undone: bool) {
        if removal_undone {
            self.spool = self.lingering;
        }
        self.lingering = None;
        self.place = match self.spool {
            None => Place::Nowhere,
            Some(None) => Place::Unsure,
            Some(Some(_)) => Place::Ended,
        };
        self.fresh = false;
        self.recent = false;
        self.asking = Asking::Nothing;
        self.late_dispatch |= self.dispatching;
        self.dispatching = false;
        self.news.clear();
    }

    /// The database's part: a first result stands, unless another was told.
    fn write(&mut self, event: Event) -> bool {
        match event {
            Event::Accepted => {
                self.row.get_or_insert(None);
                false
            }
            Event::Ended { outcome, told } => {
                let before = self.row.flatten().filter(|_| !told);
                let stands = before.unwrap_or(outcome);
                self.row = Some(Some(stands));
                stands != outcome
            }
        }
    }

    fn settle(&mut self, event: Event, superseded: bool) {
        self.stream.remove(&event);
        if let Event::Ended { outcome, .. } = event {
            if self.mark == Mark::Ended(outcome) {
                self.mark = Mark::Absent;
            }
            if !superseded {
                self.news.insert(News::Persisted(outcome));
            }
        }
    }

    fn set_back(&mut self) {
        if let Mark::Ended(last) = self.mark {
            self.stream
                .retain(|event| !matches!(event, Event::Ended { outcome, .. } if *outcome == last));
            self.mark = Mark::Queued;
            self.queue += 1;
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Submit => self.submit(),
            Action::Withdraw => {
                let outcome = self.new_outcome();
                self.conclude(outcome);
            }
            Action::Dispatch => {
                self.place = Place::Sent { confirmed: false };
                self.dispatching = true;
            }
            Action::DispatchDone => {
                self.dispatching = false;
                self.dispatch();
                if let Place::Sent { confirmed } = &mut self.place {
                    *confirmed = true;
                }
            }
            Action::DispatchFails { took_effect } => {
                self.dispatching = false;
                if took_effect {
                    self.dispatch();
                } else {
                    self.late_dispatch = true;
                }
                if matches!(self.place, Place::Sent { .. }) {
                    self.place = Place::Unsure;
                }
            }
            Action::LateDispatch => {
                self.late_dispatch = false;
                self.dispatch();
            }
            Action::Ask => self.ask(),
            Action::AskDatabase => {
                if let Asking::Absent(result) = self.asking {
                    self.asking = Asking::Row(result, self.row);
                }
            }
            Action::Decide => {
                if let Asking::Row(result, row) = self.asking {
                    self.asking = Asking::Nothing;
                    self.decide(result, row);
                }
            }
            Action::Announce => {
                if let Some(outcome) = self.announcing.take() {
                    self.announce(outcome);
                }
            }
            Action::AnnounceIsLost => self.announcing = None,
            Action::Hear(news) => self.hear(news),
            Action::Miss(news) => drop(self.news.remove(&news)),
            Action::ServerDies { removal_undone } => self.server_dies(removal_undone),
            Action::Take => {
                self.queue -= 1;
                self.unacked += 1;
                self.working += 1;
            }
            Action::LeaseRunsOut => {
                self.unacked -= 1;
                self.queue += 1;
            }
            Action::Finish => {
                self.working -= 1;
                self.unacked = self.unacked.saturating_sub(1);
                if self.mark == Mark::Queued {
                    let outcome = self.new_outcome();
                    self.finish(outcome);
                }
            }
            Action::WorkerDies => self.working -= 1,
            Action::Requeue => {
                self.requeues += 1;
                self.queue += 1;
            }
            Action::RedisIsWiped => {
                self.mark = Mark::Absent;
                self.queue = 0;
                self.unacked = 0;
                self.stream.clear();
            }
            Action::RedisIsSetBack => self.set_back(),
            Action::Read(it, event) => self.persisters[it] = Persister::Holds(event),
            Action::Commit(it) => {
                if let Persister::Holds(event) = self.persisters[it] {
                    let superseded = self.write(event);
                    self.persisters[it] = Persister::Committed { event, superseded };
                }
            }
            Action::Settle(it) => {
                if let Persister::Committed { event, superseded } = self.persisters[it] {
                    self.persisters[it] = Persister::Idle;
                    self.settle(event, superseded);
                }
            }
            Action::PersisterDies(it) => self.persisters[it] = Persister::Idle,
        }
    }
}
