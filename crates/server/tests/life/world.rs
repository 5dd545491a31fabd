//! One job, and all who have a part in its life: what there is, and what may happen.

use std::collections::BTreeSet;

/// A result: which of those that workers (or a cancellation) have come to.
pub(super) type Outcome = u8;
/// Later ones count as the last of these.
pub(super) const MAX_OUTCOMES: Outcome = 3;

/// An event on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Event {
    Accepted,
    Ended { outcome: Outcome, told: bool },
}

/// The job's mark in `open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Absent,
    Queued,
    Ended(Outcome),
}

/// Where the server's book has the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Nowhere,
    Waiting,
    Sent { confirmed: bool },
    Unsure,
    Ended,
}

/// How far the server has come with asking about the job: Redis first, then the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asking {
    Nothing,
    /// The mark was absent, while the spool said this.
    Absent(Option<Outcome>),
    /// Then the database had this row.
    Row(Option<Outcome>, Record),
}

/// What is published to the server, and not heard yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum News {
    Result(Outcome),
    Persisted(Outcome),
}

/// What a persister does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Persister {
    Idle,
    Holds(Event),
    /// It is committed; `superseded` if another result stands.
    Committed {
        event: Event,
        superseded: bool,
    },
}

/// A record of the spool or a row of the database, with its result.
pub(super) type Record = Option<Option<Outcome>>;

/// All there is at a moment.
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) accepted: bool,
    pub(super) told: Option<Outcome>,
    /// The client was told two things.
    pub(super) lied: bool,

    pub(super) spool: Record,
    /// What was taken out of the spool by a commit that a crash may undo.
    pub(super) lingering: Record,
    pub(super) place: Place,
    /// The job's id can't have been used before.
    pub(super) fresh: bool,
    /// The job has left the spool a short while ago.
    pub(super) recent: bool,
    pub(super) asking: Asking,
    /// A dispatch is under way, whose answer is awaited; or is not, and may take effect yet.
    pub(super) dispatching: bool,
    pub(super) late_dispatch: bool,
    pub(super) announcing: Option<Outcome>,
    pub(super) news: BTreeSet<News>,

    pub(super) mark: Mark,
    pub(super) queue: u8,
    pub(super) unacked: u8,
    pub(super) stream: BTreeSet<Event>,

    pub(super) working: u8,
    pub(super) persisters: Vec<Persister>,
    pub(super) row: Record,

    pub(super) outcomes: Outcome,
    pub(super) misfortunes: u8,
    pub(super) submissions: u8,
    pub(super) requeues: u8,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Submit,
    /// The job is cancelled before it was sent.
    Withdraw,
    Dispatch,
    DispatchDone,
    DispatchFails {
        took_effect: bool,
    },
    LateDispatch,
    Ask,
    AskDatabase,
    Decide,
    Announce,
    AnnounceIsLost,
    Hear(News),
    Miss(News),
    ServerDies {
        removal_undone: bool,
    },
    Take,
    LeaseRunsOut,
    Finish,
    WorkerDies,
    Requeue,
    /// Redis loses all it has.
    RedisIsWiped,
    /// Redis comes back without its last write, the job's end.
    RedisIsSetBack,
    Read(usize, Event),
    Commit(usize),
    Settle(usize),
    PersisterDies(usize),
}

impl Action {
    /// Whether the end must be reached without this.
    pub(super) fn is_misfortune(self) -> bool {
        use Action::{
            AnnounceIsLost, DispatchFails, Miss, PersisterDies, RedisIsSetBack, RedisIsWiped,
            Requeue, ServerDies, WorkerDies,
        };
        matches!(
            self,
            AnnounceIsLost
                | DispatchFails { .. }
                | Miss(_)
                | PersisterDies(_)
                | RedisIsSetBack
                | RedisIsWiped
                | Requeue
                | ServerDies { .. }
                | WorkerDies
        )
    }
}
